"""`python -m fteng.predict WORKDIR PATH ... --out=FILE`: what the model of a study says of images, one row an image."""

import argparse
import signal
import sys
from pathlib import Path

from fteng.errors import says_user_errors
from fteng.named import TRIAL
from fteng.predict.output import ENDINGS
from fteng.process import begin_with_huge_pages

_HELP = """\
Ask the model that a study recommends, or one of its other trials or probes, about images. A PATH is an image file, a folder (with
all that is below it), or a CSV or Parquet table with one row an image.

FILE has one row an image, in the order given:
  path, group             as in the table; group only if a table has such a column
  predicted               the most likely class
  probability_CLASS       calibrated on the study's validation images (temperature scaling)
  raw_CLASS               as the network says it, not calibrated
  unlike_score, unlike    how unlike the training images the image is; above 1, or true: not more than 1 in 100 validation images is
  error                   why the file could not be read; then nothing else is said
With groups, FILE.groups.csv beside it has one row a group: the mean of its images' probabilities.

A run that was stopped goes on where it was when the same command is given again.
"""
_EXAMPLE = """\
example:
  python -m fteng.main --config=configs/folder.py --config.data.path=MY_IMAGES --workdir=runs/mine
  python -m fteng.predict runs/mine NEW_IMAGES --out=predictions.csv
  python -m fteng.predict runs/mine lesions.csv --group_column=lesion_id --tta --out=predictions.parquet
"""


@says_user_errors
def main(arguments: list[str]) -> int:
    """Exit status: 0, 2 when the user has something to mend, 130 when stopped."""
    given = _parse(arguments)
    try:
        # Takes a second, which a wrong path should not cost.
        from fteng.predict.run import Options, predict
        from fteng.progress import make_reporter

        reporter = make_reporter()
        try:
            options = Options(given.trial, given.tta, given.path_column, given.group_column)
            said = predict(given.workdir, given.paths, given.out, options, reporter)
        except BaseException:
            reporter.stop()
            raise
        reporter.close()
        print(said)
    except KeyboardInterrupt:
        print("fteng: stopped; what is answered is kept, the same command goes on from there", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fteng.predict",
        description=_HELP,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("workdir", type=Path, metavar="WORKDIR", help="the --workdir that the study was run with")
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="images, folders, tables")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=f"file to write: {', '.join(ENDINGS)}")
    parser.add_argument("--trial", default="", metavar="ID", help=TRIAL)
    parser.add_argument(
        "--tta",
        nargs="?",
        const="as_trained",
        default="none",
        choices=("none", "as_trained", "flip", "dihedral"),
        help="test-time augmentation: the mean over mirrored (flip), or mirrored and turned images (dihedral); --tta alone: as the"
        " training images were (default: none)",
    )
    parser.add_argument("--path_column", default="", metavar="NAME", help="of tables (default: the study's data.path_column)")
    parser.add_argument("--group_column", default="", metavar="NAME", help="of tables (default: the study's, if there is one)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    begin_with_huge_pages()
    sys.exit(main(sys.argv[1:]))
