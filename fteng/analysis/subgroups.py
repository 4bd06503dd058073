"""The same metrics in parts of a set (sex, age band, site), each with its interval and how much it rests on."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fteng.analysis.bootstrap import group_weights, interval
from fteng.analysis.metrics import METRICS
from fteng.results import Predictions

_UNKNOWN = "not stated"
# Of the resamples.
_SEED = 0


def table(
    seeds: Sequence[Predictions],
    attribute: Sequence[str | None],
    metric: str,
    resamples: int,
    confidence: float,
) -> list[dict[str, Any]]:
    """One row a level of the attribute, by name, then `not stated`.

    seeds: one depth; attribute: (n,) of its images, None or empty = not stated.
    Each row: level, images, groups, classes (images a class), value, low, high, and note, which says why a value or an
    interval is missing (else empty). Groups are resampled within the level. Differences between levels are not tested here:
    with many levels some differ by chance. Raises ValueError where the attribute does not fit the images.
    """
    names = np.array([text.strip() or _UNKNOWN if text else _UNKNOWN for text in attribute], dtype=object)
    if len(names) != len(seeds[0].labels):
        raise ValueError(f"attribute: got {len(names)} values for {len(seeds[0].labels)} images")
    levels = sorted(set(names), key=lambda name: (name == _UNKNOWN, name))
    return [_row(level, seeds, np.flatnonzero(names == level), metric, resamples, confidence) for level in levels]


def _row(
    level: str, seeds: Sequence[Predictions], rows: np.ndarray, metric: str, resamples: int, confidence: float
) -> dict[str, Any]:
    parts = [Predictions(*(field[rows] for field in predictions)) for predictions in seeds]
    classes = np.bincount(parts[0].labels, minlength=parts[0].logits.shape[1])
    counts = {"images": len(rows), "groups": len(np.unique(parts[0].groups)), "classes": classes.tolist()}
    row = {"level": level} | counts | {"value": None, "low": None, "high": None}
    found = interval(parts, metric, group_weights(parts[0].groups, resamples, _SEED), confidence)
    label = METRICS[metric].label
    if found.value is None:
        reason = "a class has no image" if (classes == 0).any() else "an answer is not finite, or it has no meaning here"
        return row | {"note": f"{label} is undefined: {reason}"}
    note = "" if found.low is not None else "too few groups for an interval"
    return row | found._asdict() | {"note": note}
