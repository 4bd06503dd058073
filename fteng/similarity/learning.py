"""What more images would bring: probes on 1/8, 1/4 and 1/2 of the training images beside the one on all."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from fteng.analysis.drawn import group_folds
from fteng.analysis.metrics import evaluate
from fteng.results import Predictions
from fteng.undefined import UndefinedError

_EIGHTHS = (1, 2, 4)


# (features of all images, rows to fit on) -> what the probe that is fitted so answers to val and test.
Fit = Callable[[Shaped[np.ndarray, "n c"], Int[np.ndarray, "_"]], Mapping[str, Predictions]]


class Rows(NamedTuple):
    """The images of a study, row by row: labels in [0, classes), groups, ids, and rows of `train`, `val`, `test`."""

    labels: Int[np.ndarray, "n"]
    groups: Shaped[np.ndarray, "n"]
    ids: Shaped[np.ndarray, "n"]
    splits: Mapping[str, Int[np.ndarray, "_"]]


def learning_curve(features: Shaped[np.ndarray, "n c"], rows: Rows, classes: int, metric: str, fit: Fit) -> list[dict[str, Any]]:
    """One entry a share of the training images: share, images, val and test metric, or None and the reason.

    Shares are nested and cut no group. fit: as the probes themselves are fitted, but on so many images.
    """
    train = rows.splits["train"]
    try:
        eighths = group_folds(rows.labels[train], rows.groups[train], 8, seed=0)
        if len(eighths) < 8:
            raise UndefinedError("needs eight groups of training images")
    except UndefinedError as error:
        return [{"share": share / 8, "images": None, "val": None, "test": None, "reason": str(error)} for share in _EIGHTHS]
    entries = []
    for count in _EIGHTHS:
        part = train[np.sort(np.concatenate(eighths[:count]))]
        entry: dict[str, Any] = {"share": count / 8, "images": len(part), "val": None, "test": None, "reason": ""}
        if len(np.unique(rows.labels[part])) < classes:
            entry["reason"] = "a class has no image in this share"
        else:
            entry |= {split: evaluate(answers)[metric] for split, answers in fit(features, part).items()}
        entries.append(entry)
    return entries


def last_doubling(curve: Sequence[Mapping[str, Any]], full: float | None) -> float | None:
    """Points of the metric (1 = all) that the second half of the training images brought on validation."""
    half = curve[-1]["val"] if curve else None
    return None if half is None or full is None else float(full - half)
