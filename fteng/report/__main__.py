"""`python -m fteng.report WORKDIR`: make the page of a study again from its records."""

import argparse
import sys
from pathlib import Path

from fteng.errors import UserError

_HELP = """\
Make the page of a study again from the records in its work directory.

Reads   WORKDIR/study.json, WORKDIR/probes/ and WORKDIR/trials/*/result.json
Writes  WORKDIR/report/summary.json   all numbers of the page
        WORKDIR/report/index.html     one file that needs no network: open it, mail it, print it

It trains nothing and needs no accelerator. A study that is still running, or was stopped, gives a page of what is there.
"""
_EXAMPLE = """\
example:
  python -m fteng.main --config=configs/digits.py --workdir=runs/digits
  python -m fteng.report runs/digits
"""


def main(arguments: list[str]) -> int:
    """Exit status: 0, or 2 when the user has something to mend."""
    parser = argparse.ArgumentParser(
        prog="python -m fteng.report", description=_HELP, epilog=_EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdir", type=Path, metavar="WORKDIR", help="the --workdir that the study was run with")
    workdir: Path = parser.parse_args(arguments).workdir
    try:
        if not (workdir / "study.json").is_file():
            raise UserError(f"no study in {workdir}: study.json is missing; give the --workdir of a run of python -m fteng.main")
        from fteng import paths, report, summary

        collected = summary.collect(workdir)
        where = paths.StudyPaths(workdir).report
        print(report.write(where, collected))
    except UserError as error:
        print(f"fteng: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
