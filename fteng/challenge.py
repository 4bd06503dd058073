"""Predictions in the format of the ISIC challenges: `python -m fteng.challenge WORKDIR --out=FILE`.

A CSV with the column `image` (file name without folder and ending) and one column a class, its probability in [0, 1]: what
isic-challenge-scoring reads. Imports no jax.
"""

import argparse
import csv
import io
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from scipy.special import softmax

from fteng import named, paths
from fteng.analysis.metrics import is_finite
from fteng.data.folder import IMAGE_SUFFIXES
from fteng.errors import UserError, says_user_errors
from fteng.paths import StudyPaths
from fteng.record import read_study
from fteng.results import Predictions, read_predictions


@says_user_errors
def main(arguments: list[str]) -> int:
    """Exit status: 0, or 2 when the user has something to mend."""
    parser = argparse.ArgumentParser(
        prog="python -m fteng.challenge", description="Write the predictions of a study in the format of the ISIC challenges."
    )
    parser.add_argument("workdir", type=Path, metavar="WORKDIR", help="the --workdir of a study whose report is made")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="CSV to write")
    parser.add_argument("--split", choices=("test", "val"), default="test", help="which images (default: test)")
    parser.add_argument("--trial", default="", metavar="ID", help=named.TRIAL)
    given = parser.parse_args(arguments)
    study = StudyPaths(given.workdir)
    classes, predictions = read_answers(study, given.trial, given.split)
    try:
        paths.write_text(given.out, to_csv(classes, predictions))
    except OSError as error:
        raise UserError(
            f"--out: cannot write {given.out} ({error.strerror}); give a file in a folder that you may write to"
        ) from None
    print(f"{len(predictions.ids)} images: {given.out}")
    return 0


def read_answers(study: StudyPaths, name: str, split: str) -> tuple[list[str], Predictions]:
    """Class names, and the answers of a trial, of `probe:STAGE`, or (no name) of the first seed of what is recommended.

    Raises UserError where there is no such thing.
    """
    record = read_study(study, "stages", "trials", "dataset")
    name = name or named.recommended(study)
    tap = named.tap_of(name, record["stages"])
    if tap is None:
        name = named.find_id(name, [row["id"] for row in record["trials"]])
        _check_sound(study, name)
    file = study.trial(name).predictions if tap is None else study.probe(tap)
    if not file.exists():
        raise UserError(f"--trial: {name} has no predictions; run the study to its end, or name another trial")
    answers = read_predictions(file)
    if split not in answers:
        # A trial that was stopped has not seen the test images.
        raise UserError(
            f"{name} has predictions of {', '.join(answers)} alone, none of {split}; finish it, or give another --split or --trial"
        )
    return record["dataset"]["classes"], answers[split]


def _check_sound(study: StudyPaths, trial: str) -> None:
    """Answers of a trial whose audit failed are not those of its freeze plan. Raises UserError."""
    where = study.trial(trial)
    if where.result.exists():
        result = where.read_result("status", "note")
        if result["status"] == "failed":
            raise UserError(f"trial {trial} failed ({result['note']}); name another")


def to_csv(classes: list[str], predictions: Predictions) -> str:
    """Header and one row an image. Raises UserError where two images have one name, a class is called `image`, or an answer is
    no number."""
    if not is_finite(predictions):
        raise UserError("an answer is not finite, the network diverged; choose another trial with --trial")
    names = [_name(name) for name in predictions.ids.tolist()]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"two images are called {twice!r}, and the challenge format has no folders; rename one of them")
    if "image" in classes:
        raise UserError("a class is called 'image', which is the name of the first column; rename its folder")
    text = io.StringIO()
    rows: Any = csv.writer(text, lineterminator="\n")
    rows.writerow(["image", *classes])
    for name, shares in zip(names, softmax(predictions.logits.astype("float64"), axis=1).tolist(), strict=True):
        rows.writerow([name, *(repr(share) for share in shares)])
    return text.getvalue()


def _name(id_: str) -> str:
    path = PurePosixPath(id_)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
