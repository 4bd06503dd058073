"""One answer for several images of one thing, such as a lesion. Imports no jax."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fteng import paths

_Group = tuple[np.ndarray, list[int]]


def write_groups(rows: Path, out: Path, classes: Sequence[str]) -> None:
    """One row a group of the CSV `rows`, in the order in which the groups first appear.

    Its probabilities are the mean of those of its images that could be read: images of one lesion tell much the same, so they are
    no independent witnesses whose odds one may multiply. unlike_images: how many of them are unlike the training images.
    """
    columns = [f"probability_{name}" for name in classes]
    groups: dict[str, _Group] = {}
    with rows.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            total, counts = groups.setdefault(row["group"], (np.zeros(len(classes)), [0, 0, 0]))
            if row["error"]:
                counts[1] += 1
                continue
            total += [float(row[column]) for column in columns]
            counts[0] += 1
            counts[2] += row["unlike"] == "true"

    def write(beside: Path) -> None:
        with beside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["group", "images", "unreadable_images", "unlike_images", "predicted", *columns])
            for name, (total, (read, broken, unlike)) in groups.items():
                mean = total / read if read else None
                best = "" if mean is None else classes[int(mean.argmax())]
                shares = [""] * len(columns) if mean is None else [f"{share:.7g}" for share in mean]
                writer.writerow([name, read, broken, unlike, best, *shares])

    paths.write_by(out, write)
