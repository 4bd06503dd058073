"""The cumulative counts behind every curve of one class against the rest, for many weightings from one sort."""

from typing import NamedTuple

import numpy as np

# Above this float64 has too few digits left to tell probabilities apart, while those of the other classes still do.
_SATURATED = 1 - 1e-6


class Curve(NamedTuple):
    """true, false: (thresholds + 1, r) float64, weight of the images of the class and of the rest at or above each distinct
    score, from the highest down; the first row is 0, the last the total."""

    true: np.ndarray
    false: np.ndarray


def trace(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, k: int) -> Curve:
    """labels (n,), probabilities (n, c), weights (r, n) -> the curve of class k. Equal scores are one threshold.

    Where a probability is within 1e-6 of 1, the sum of the other probabilities decides the order: rounding would otherwise make
    ties of images that the network tells apart, and AUC near 1 would be wrong.
    """
    score = probabilities[:, k]
    rest = np.where(score > _SATURATED, np.delete(probabilities, k, axis=1).sum(axis=1), 0.0)
    order = np.lexsort((rest, -score))
    score, rest = score[order], rest[order]
    ends = np.append(np.flatnonzero((score[1:] != score[:-1]) | (rest[1:] != rest[:-1])), len(order) - 1) + 1
    # Rows are images: the running sums then go along contiguous memory.
    sorted_weights = weights.T[order].astype(np.float64)
    member = (labels[order] == k)[:, None]
    both = np.zeros((2, len(order) + 1, len(weights)))
    np.cumsum(sorted_weights * member, axis=0, out=both[0, 1:])
    np.cumsum(sorted_weights * ~member, axis=0, out=both[1, 1:])
    if len(ends) == len(order):
        return Curve(both[0], both[1])
    keep = np.append(0, ends)
    return Curve(both[0][keep], both[1][keep])
