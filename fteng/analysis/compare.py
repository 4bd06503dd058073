"""Depths against each other on the same groups: paired tests, correction for many of them, DeLong's test as a check."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from fteng.analysis.bootstrap import depth_score, depth_scores, informative_groups, standard_error
from fteng.analysis.metrics import resampled
from fteng.results import Predictions

# Of the interval of DeLong's test.
_DELONG_CONFIDENCE = 0.95
_SEED = 0


class Scores(NamedTuple):
    """One depth. point: mean over seeds; draws: (resamples,) the same on each resample; seeds: (s,) each seed on all images."""

    point: float
    draws: np.ndarray
    seeds: np.ndarray


class Difference(NamedTuple):
    """first minus second in points of the metric, its interval and two-sided p value; nan = undefined."""

    difference: float
    low: float
    high: float
    p: float


def scores(seeds: Sequence[Predictions], metric: str, weights: np.ndarray) -> Scores:
    """weights: (resamples, n), the same for every depth that is compared: common resamples make the comparison paired."""
    ones = np.ones((1, weights.shape[1]))
    each = np.array([resampled(metric, predictions, ones)[0] for predictions in seeds])
    return Scores(depth_score(seeds, metric), depth_scores(seeds, metric, weights), each)


def check_paired(depths: Sequence[Sequence[Predictions]]) -> None:
    """Raises ValueError unless every seed of every depth answers the same images in the same order."""
    first = depths[0][0]
    for predictions in (seed for depth in depths for seed in depth):
        for field in ("ids", "groups", "labels"):
            if not np.array_equal(getattr(first, field), getattr(predictions, field)):
                raise ValueError(f"a paired comparison needs the same {field} in the same order for every depth and seed")


def training_luck(depths: Sequence[Scores]) -> float:
    """Variance of the score of one seed around its depth's mean, pooled over depths; nan where no depth has two seeds.

    Resampling images says nothing of it, though it is often as large (Bouthillier et al. 2021).
    """
    freedom = sum(len(depth.seeds) - 1 for depth in depths)
    if freedom == 0:
        return float("nan")
    return float(sum(((depth.seeds - depth.seeds.mean()) ** 2).sum() for depth in depths) / freedom)


def with_luck(depths: Sequence[Scores], luck: float) -> np.ndarray:
    """(depths, resamples): the resampled scores, each moved by what other seeds might have given. luck: variance of one seed's
    score, see `training_luck`; nan: nothing is known of it."""
    noise = np.random.default_rng(_SEED).normal(size=(len(depths), len(depths[0].draws)))
    spread = np.nan_to_num(luck)
    return np.array([depth.draws + np.sqrt(spread / len(depth.seeds)) * own for depth, own in zip(depths, noise, strict=True)])


def difference_of(one: Scores, other: Scores, luck: float, units: int, confidence: float) -> Difference:
    """Two depths on the same images, resampled by the same weights; luck: of `training_luck`; units: independent groups.

    The difference over its standard error (bootstrap over groups, plus the luck in training where there are seeds to tell it)
    against Student's t: the test is centred on no difference by construction, where the share of resamples beyond 0 would be
    centred on what was observed. It agrees with the interval, and a p value below 1 / resamples can still be told for a
    correction. Depths that answer alike on every resample have p = 1; a difference that no resample moves (one always right, the
    other always wrong) has no standard error and is undefined.
    """
    luck = np.nan_to_num(luck) * (1 / len(one.seeds) + 1 / len(other.seeds))
    error = float(np.sqrt(standard_error(one.draws - other.draws, units) ** 2 + luck))
    difference = one.point - other.point
    if not np.isfinite(error) or not np.isfinite(difference) or (error == 0 and difference != 0):
        return Difference(difference, np.nan, np.nan, np.nan)
    if error == 0:
        return Difference(difference, difference, difference, 1.0)
    reach = float(stats.t.ppf((1 + confidence) / 2, units - 1)) * error
    return Difference(difference, difference - reach, difference + reach, float(2 * stats.t.sf(abs(difference) / error, units - 1)))


def every_pair(
    depths: Sequence[Sequence[Predictions]], metric: str, weights: np.ndarray, confidence: float
) -> list[dict[str, Any]]:
    """Each pair of depths once: first, second (positions in depths), difference, low, high, p and p_holm (over all pairs).

    As `difference_of`, the luck in training pooled over all depths. None = undefined; intervals are not corrected. Raises
    ValueError where the images differ.
    """
    if len(depths) < 2:
        return []
    check_paired(depths)
    each, units = [scores(depth, metric, weights) for depth in depths], informative_groups(depths[0][0], metric)
    luck = training_luck([depth for depth in each if np.isfinite(depth.seeds).all()])
    couples = [(a, b) for b in range(len(depths)) for a in range(b)]
    found = [difference_of(each[a], each[b], luck, units, confidence) for a, b in couples]
    rows = []
    for (a, b), row, corrected in zip(couples, found, holm([row.p for row in found]), strict=True):
        values = row._asdict() | {"p_holm": corrected}
        rows.append({"first": a, "second": b} | {key: float(v) if np.isfinite(v) else None for key, v in values.items()})
    return rows


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm 1979), in the order given; nan stays nan and does not count."""
    values = np.asarray(p, np.float64)
    order = np.argsort(values, kind="stable")
    count = int(np.isfinite(values).sum())
    corrected = np.full(len(values), np.nan)
    stepped = np.maximum.accumulate(values[order[:count]] * (count - np.arange(count)))
    corrected[order[:count]] = np.minimum(stepped, 1)
    return corrected.tolist()


def delong(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> Difference:
    """The difference of two AUCs on the same images with its 95 % interval, by DeLong, DeLong and Clarke-Pearson 1988, through
    midranks (Sun and Xu 2014).

    labels: (n,) in {0, 1}; first, second: (n,) scores, larger = more class 1. It takes every image for independent: a check of
    `paired` where each group is one image. nan where a class has fewer than two images, or nothing varies but they differ.
    """
    positive, negative = labels == 1, labels == 0
    m, n = int(positive.sum()), int(negative.sum())
    if m < 2 or n < 2:
        return Difference(np.nan, np.nan, np.nan, np.nan)
    above, below, areas = [], [], []
    for score in (first, second):
        ranks = stats.rankdata(score)
        above.append((ranks[positive] - stats.rankdata(score[positive])) / n)
        below.append(1 - (ranks[negative] - stats.rankdata(score[negative])) / m)
        areas.append(above[-1].mean())
    error = float(np.sqrt((above[0] - above[1]).var(ddof=1) / m + (below[0] - below[1]).var(ddof=1) / n))
    difference = float(areas[0] - areas[1])
    if error == 0:
        return Difference(0.0, 0.0, 0.0, 1.0) if difference == 0 else Difference(difference, np.nan, np.nan, np.nan)
    reach = float(stats.norm.ppf((1 + _DELONG_CONFIDENCE) / 2)) * error
    return Difference(difference, difference - reach, difference + reach, float(2 * stats.norm.sf(abs(difference) / error)))
