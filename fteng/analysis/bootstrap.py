"""Intervals by resampling GROUPS (patients, lesions), the independent units, the same resamples for all that is compared."""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.special import expit, logit

from fteng.analysis.metrics import METRICS, Metric, resampled
from fteng.results import Predictions

# Where more resamples than this lack a class, those that are left are a biased choice.
_UNDEFINED_SHARE = 0.1


class Interval(NamedTuple):
    """A value with its interval; None where undefined."""

    value: float | None
    low: float | None
    high: float | None


def group_weights(groups: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """How often each image counts when as many groups as there are get drawn with replacement: (resamples, n) int16.

    groups: (n,), the images of one value stay together: the cluster bootstrap (Davison and Hinkley 1997, section 3.8; Field and
    Welsh 2007). In memory the resamples of one image lie side by side, which the metrics use.
    """
    _, member = np.unique(groups, return_inverse=True)
    count = int(member.max(initial=0)) + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return draws.T.astype(np.int16)[member].T


def split_weights(split: str, groups: np.ndarray, resamples: int) -> np.ndarray:
    """`group_weights` of a split of a study, the same wherever it is judged."""
    return group_weights(groups, resamples, zlib.crc32(split.encode()))


def depth_scores(seeds: Sequence[Predictions], metric: str, weights: np.ndarray) -> np.ndarray:
    """(resamples,): the mean over seeds of the metric, every seed on the same resample; nan where it is undefined for one."""
    return np.mean([resampled(metric, predictions, weights) for predictions in seeds], axis=0)


def depth_score(seeds: Sequence[Predictions], metric: str) -> float:
    """The mean over seeds of the metric on the images as they are; nan = undefined."""
    return float(depth_scores(seeds, metric, np.ones((1, len(seeds[0].labels))))[0])


def informative_groups(predictions: Predictions, metric: str) -> int:
    """How many independent units a score rests on: all groups; where both classes weigh the same, those of the rarer one.

    With more classes the score is a mean over them: the degrees of freedom of Satterthwaite 1946 for equal spreads, plus one.
    """
    if not METRICS[metric].by_class:
        return len(np.unique(predictions.groups))
    classes = range(predictions.logits.shape[1])
    counts = np.array([len(np.unique(predictions.groups[predictions.labels == k])) for k in classes])
    if len(counts) == 2 or counts.min() < 2:
        return int(counts.min())
    return int((1 / counts).sum() ** 2 / (1 / (counts**2 * (counts - 1))).sum()) + 1


def standard_error(draws: np.ndarray, units: int) -> float:
    """Of resampled scores (resamples,), for scores that rest on `units` groups; nan where they allow none.

    A resample varies too little by units / (units - 1), see Hesterberg 2015.
    """
    defined = draws[np.isfinite(draws)]
    if units < 2 or len(defined) < 2 or len(defined) < (1 - _UNDEFINED_SHARE) * len(draws):
        return float("nan")
    return float(defined.std(ddof=1) * np.sqrt(units / (units - 1)))


def zero_event_bound(units: int, alpha: float) -> float:
    """How frequent something may be, at most, that none of `units` independent units shows (Hanley and Lippman-Hand 1983)."""
    return 1 - alpha ** (1 / units)


def interval(seeds: Sequence[Predictions], metric: str, weights: np.ndarray, confidence: float) -> Interval:
    """The mean over seeds and its interval from the resamples `weights` (resamples, n) of `group_weights`.

    Student's t around the logit of a score in [0, 1] (around the log of a loss), with the bootstrap's standard error and the
    degrees of freedom of `informative_groups`; Pepe 2003, section 5.2.5, for AUC. How often it holds a known AUC is measured by
    `python -m benchmarks.alarms`. Percentile and basic intervals hold too little: near 1 a resample can hardly be worse than the
    sample. A score of exactly 0 or 1 gets the exact binomial bound. The interval is about other images of the same kind under these
    networks, not about other splits or seeds. Undefined where more than one resample in ten lacks a class, or one group stands for
    a class.
    """
    value, units = depth_score(seeds, metric), informative_groups(seeds[0], metric)
    if not np.isfinite(value):
        return Interval(None, None, None)
    error = standard_error(depth_scores(seeds, metric, weights), units)
    low, high = _bounds(METRICS[metric], value, error, units, confidence)
    if not np.isfinite([low, high]).all():
        return Interval(value, None, None)
    # Without any spread the way to the logit and back would round past the value.
    return Interval(value, min(low, value), max(high, value))


def _bounds(metric: Metric, value: float, error: float, units: int, confidence: float) -> tuple[float, float]:
    if not np.isfinite(error):
        return float("nan"), float("nan")
    reach = float(stats.t.ppf((1 + confidence) / 2, units - 1)) * error
    if not metric.higher_is_better:
        # A loss of exactly 0 has no scale to go by.
        return (value * np.exp(-reach / value), value * np.exp(reach / value)) if value > 0 else (float("nan"), float("nan"))
    if value in (0.0, 1.0):
        bound = zero_event_bound(units, (1 - confidence) / 2)
        return (1 - bound, 1.0) if value == 1 else (0.0, bound)
    reach /= value * (1 - value)
    return float(expit(logit(value) - reach)), float(expit(logit(value) + reach))
