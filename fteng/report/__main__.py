"""`python -m fteng.report WORKDIR ...`: make the page of a study again from its records, or one page of several studies."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from fteng.errors import UserError, says_user_errors

_HELP = """\
Make the page of a study again from the records in its work directory, or set several studies side by side on one page.

One WORKDIR:
  reads   WORKDIR/*.json, WORKDIR/images.parquet, WORKDIR/probes/, and of each trial result.json and predictions.parquet
  writes  WORKDIR/report/summary.json   all numbers of the page
          WORKDIR/report/index.html     one file that needs no network: open it, mail it, print it

Several:
  reads   the same of each, and its summary where that is up to date
  writes  OUT/comparison.json           all numbers of the page
          OUT/index.html                one file, with links to the pages of the studies where they are

It trains nothing and needs no accelerator. A study that is still running, or was stopped, gives a page of what is there.
"""
_EXAMPLE = """\
examples:
  python -m fteng.report runs/digits
  python -m fteng.report runs/lite0 runs/vgg16 runs/resnet50 --out=runs/compared
"""


@says_user_errors
def main(arguments: list[str]) -> int:
    """Exit status: 0, or 2 when the user has something to mend."""
    parser = argparse.ArgumentParser(
        prog="python -m fteng.report", description=_HELP, epilog=_EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "workdirs",
        type=Path,
        nargs="+",
        metavar="WORKDIR",
        help="the --workdir that a study was run with; several: one page of all",
    )
    parser.add_argument("--out", type=Path, help="folder of the page of several studies (default: ./compared)")
    given = parser.parse_args(arguments)
    if len(given.workdirs) > 1:
        from fteng.report import compare

        command = shlex.join(["python", "-m", "fteng.report", *arguments])
        print(compare.write(given.out or Path("compared"), given.workdirs, command))
    else:
        print(_one(given.workdirs, given.out))
    return 0


def _one(workdirs: Sequence[Path], out: Path | None) -> Path:
    (workdir,) = workdirs
    if out is not None:
        raise UserError(f"--out={out} is for several studies; the page of one stands in its work directory, or name more studies")
    if not (workdir / "study.json").is_file():
        raise UserError(f"no study in {workdir}: study.json is missing; give the --workdir of a run of python -m fteng.main")
    from fteng import paths, report, summary

    where, collected = paths.StudyPaths(workdir).report, summary.collect(workdir)
    try:
        return report.write(where, collected)
    except OSError as error:
        raise UserError(f"cannot write the page to {where} ({error.strerror}); make room, or make the folder writable") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
