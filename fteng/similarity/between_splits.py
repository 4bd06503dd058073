"""Whether the test images are like the training images: distances of samples, each beside what chance makes of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Shaped

from fteng.analysis.drawn import subsample
from fteng.similarity.distances import common_directions, frechet
from fteng.similarity.rows import check_features
from fteng.similarity.zero import band, exchanges, two_samples
from fteng.undefined import UndefinedError

Taps = Sequence[Shaped[np.ndarray, "n _"]]
EACH_SIDE = 256
_EXCHANGES = 20
_LEVEL = 0.05


def compare_splits(
    stages: Sequence[str],
    taps: Taps,
    labels: Int[np.ndarray, "n"],
    groups: Shaped[np.ndarray, "n"],
    train: Int[np.ndarray, "_"],
    test: Int[np.ndarray, "_"],
) -> dict[str, Any]:
    """Unbiased MMD^2 (Gaussian kernel, bandwidth the median distance) and shrunk Frechet distance of the training to the test
    images, at most 256 of each, at every tap. p is of MMD^2, corrected over taps; the zero of each is from exchanged groups."""
    sides = [rows[subsample(labels[rows], EACH_SIDE, seed=0)] for rows in (train, test)]
    rows = np.concatenate(sides)
    first = np.arange(len(rows)) < len(sides[0])
    about = {"images": [len(side) for side in sides], "level": _LEVEL, "bandwidth": "median distance of two images"}
    found: dict[str, dict[str, Any]] = {stage: _undefined("") for stage in stages}
    usable: dict[str, np.ndarray] = {}
    for stage, tap in zip(stages, taps, strict=True):
        try:
            check_features(tap[rows])
            usable[stage] = tap[rows]
        except UndefinedError as error:
            found[stage] = _undefined(str(error))
    try:
        mmd = two_samples(list(usable.values()), first, groups[rows]) if usable else []
        exchanged = exchanges(first, groups[rows], _EXCHANGES)
    except UndefinedError as error:
        rows_ = [{"stage": stage, **_undefined(str(error))} for stage in stages]
        return about | {"rows": rows_, "first_noticeable": None, "reason": str(error)}
    for (stage, features), own in zip(usable.items(), mmd, strict=True):
        found[stage] = _defined(own, _frechet(features, exchanged))
    listed = [{"stage": stage, **row} for stage, row in found.items()]
    told = next((row["stage"] for row in listed if row["p"] is not None and row["p"] <= _LEVEL), None)
    return about | {"rows": listed, "first_noticeable": told, "reason": ""}


def _frechet(features: Shaped[np.ndarray, "n c"], sides: Bool[np.ndarray, "r n"]) -> dict[str, Any]:
    both = common_directions(features[sides[0]], features[~sides[0]])
    # Stacked side by side; back to the order of the rows.
    ordered = np.empty_like(both)
    ordered[np.concatenate([np.flatnonzero(sides[0]), np.flatnonzero(~sides[0])])] = both
    draws = np.array([frechet(ordered[side], ordered[~side]) for side in sides])
    return {"value": float(draws[0]), "reason": "", "zero": band(draws[1:])._asdict()}


def _defined(mmd: dict[str, float], full: dict[str, Any]) -> dict[str, Any]:
    zero = {name: mmd[name] for name in ("mean", "low", "high")}
    return {"mmd2": {"value": mmd["value"], "reason": "", "zero": zero}, "frechet": full, "p": mmd["p"]}


def _undefined(reason: str) -> dict[str, Any]:
    return {
        "mmd2": {"value": None, "reason": reason, "zero": None},
        "frechet": {"value": None, "reason": reason, "zero": None},
        "p": None,
    }
