"""ROC and precision-recall curves with pointwise intervals, a class against the rest, and the points a clinic works at."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.special import expit, log_softmax, logit, logsumexp

from fteng.analysis.bootstrap import standard_error, zero_event_bound
from fteng.analysis.curve import trace
from fteng.analysis.metrics import is_finite, probabilities_of, ratio
from fteng.results import Predictions

# Where curves are read. Of a ROC curve the left end matters most: few of those without the condition are called positive.
FALSE_RATES = np.concatenate([np.linspace(0, 0.1, 21), np.linspace(0.12, 1, 45)])
RECALLS = np.linspace(0.02, 1, 50)
# What a clinic asks to be kept: (which rate, at least).
POINTS = tuple((kept, level) for kept in ("specificity", "sensitivity") for level in (0.90, 0.95))
# As in the metrics: the running sums of so many weights stay in the processor's cache.
_CHUNK = 1 << 17
# Rates are quotients of counts; one that is reached is not to be missed by rounding.
_ROUNDING = 1e-9


class Band(NamedTuple):
    """Values at fixed places `at` (p,) and their intervals, each (p,) float64; nan = undefined."""

    at: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Curves(NamedTuple):
    """roc: sensitivity at each of FALSE_RATES; precision: at each of RECALLS; points: at each of POINTS, the other rate."""

    roc: Band
    precision: Band
    points: Band


class Working(NamedTuple):
    """A threshold that validation chose, and what it does on test. threshold, log_odds: of the first seed, on the probability and
    on its log odds, which tell apart what is near 1; sensitivity, specificity: (value, low, high), nan = undefined."""

    threshold: float
    log_odds: float
    sensitivity: tuple[float, float, float]
    specificity: tuple[float, float, float]


def against_rest(predictions: Predictions, positive: int) -> Predictions:
    """The answers as those of two classes, of which class 1 is `positive`; its probability stays what it was."""
    logits = predictions.logits.astype(np.float64)
    labels = (predictions.labels == positive).astype(np.int64)
    if not is_finite(predictions):
        return predictions._replace(labels=labels, logits=np.full((len(labels), 2), np.nan))
    rest = np.asarray(logsumexp(np.delete(logits, positive, axis=1), axis=1))
    both = np.stack([rest, logits[:, positive]], axis=1)
    return predictions._replace(labels=labels, logits=log_softmax(both, axis=1))


def one_against_rest(
    seeds: Sequence[Predictions], classes: Sequence[int], weights: np.ndarray, confidence: float
) -> tuple[list[Curves], Curves]:
    """(of each of `classes` against the rest, of their mean): values are means over seeds, bands come from the resamples.

    seeds: the same images under each seed; of two classes ask for one, the other is its mirror image. weights: (resamples, n) of
    `bootstrap.group_weights`, so whole groups are resampled. ROC: vertical averaging (Fawcett 2006), images of equal score joined
    by a straight line, as the area under it has it. Precision: of the highest threshold that reaches the recall; nothing is
    interpolated there (Davis and Goadrich 2006). Points: the best threshold that keeps the level, not interpolated. Each place
    has an interval as `bootstrap.interval` makes it (but see `_smooth`), so a whole curve leaves its band more often than one
    place does.
    """
    split = [[against_rest(seed, k) for seed in seeds] for k in classes]
    values = [np.mean([_read(seed, np.ones((1, len(seed.labels)))) for seed in turned], axis=0)[:, 0] for turned in split]
    total = np.zeros((len(values[0]), len(weights)))
    units = [_groups(turned[0]) for turned in split]
    found = []
    for turned, value, groups in zip(split, values, units, strict=True):
        draws = np.mean([_read(seed, weights) for seed in turned], axis=0)
        total += draws / len(split)
        found.append(_curves(value, draws, min(groups), confidence))
    if len(found) == 1:
        return found, found[0]
    mean = _curves(np.mean(values, axis=0), total, _units([own for own, _ in units]), confidence)
    # The mean over classes of thresholds of their own is no way to work.
    undefined = np.full(len(POINTS), np.nan)
    return found, mean._replace(points=Band(mean.points.at, undefined, undefined, undefined))


def working_points(
    val: Sequence[Predictions], test: Sequence[Predictions], weights: np.ndarray, confidence: float
) -> list[Working | None]:
    """For each of POINTS the threshold that keeps it on validation, applied to test; None where validation lacks a class.

    val, test: answers of two classes, one entry a seed, each seed with a threshold of its own; weights: (resamples, n) of test.
    """
    groups, found = _groups(test[0]), []
    for kept, level in POINTS:
        thresholds = [_threshold(seed, kept, level) for seed in val]
        if not np.isfinite(thresholds).all() or not all(is_finite(seed) for seed in test):
            found.append(None)
            continue
        rates = []
        # The threshold is given, so that each rate rests on the groups of its own side alone.
        for positive, units in zip((1, 0), groups, strict=True):
            right = [(_margin(seed) >= threshold) == positive for seed, threshold in zip(test, thresholds, strict=True)]
            member = test[0].labels == positive
            share = np.mean([ratio(weights @ (one & member), weights @ member) for one in right], axis=0)
            value = np.mean([one[member].mean() if member.any() else np.nan for one in right])
            band = _band(np.zeros(1), np.array([value]), share[None], units, confidence)
            rates.append((float(band.value[0]), float(band.low[0]), float(band.high[0])))
        found.append(Working(float(expit(thresholds[0])), float(thresholds[0]), *rates))
    return found


def _groups(turned: Predictions) -> tuple[int, int]:
    """How many groups hold an image of the class, and of the rest."""
    return tuple(len(np.unique(turned.groups[turned.labels == side])) for side in (1, 0))  # pyright: ignore[reportReturnType]


def _units(counts: Sequence[int]) -> int:
    """Independent units of a mean over classes: Satterthwaite 1946 for equal spreads, as `bootstrap.informative_groups`."""
    each = np.array(counts, np.float64)
    if each.min() < 2:
        return int(each.min())
    return int((1 / each).sum() ** 2 / (1 / (each**2 * (each - 1))).sum()) + 1


def _curves(value: np.ndarray, draws: np.ndarray, units: int, confidence: float) -> Curves:
    places = (FALSE_RATES, RECALLS, np.array([level for _, level in POINTS]))
    ends = np.cumsum([len(at) for at in places])[:-1]
    parts = zip(places, np.split(value, ends), np.split(draws, ends), strict=True)
    bands = zip((_smooth, _smooth, _band), parts, strict=True)
    roc, precision, points = (make(at, one, drawn, units, confidence) for make, (at, one, drawn) in bands)
    # Who calls every image positive finds every one: there is nothing to be unsure of.
    for bound in (roc.low, roc.high):
        bound[-1] = roc.value[-1]
    return Curves(roc, precision, points)


def _read(turned: Predictions, weights: np.ndarray) -> np.ndarray:
    """What `_curves` splits, under each of weights (r, n): (places, r) float64, nan where a class has no weight."""
    places = len(FALSE_RATES) + len(RECALLS) + len(POINTS)
    if not is_finite(turned) or not len(turned.labels):
        return np.full((places, len(weights)), np.nan)
    probabilities = probabilities_of(turned)
    step = max(1, _CHUNK // len(turned.labels))
    found = np.empty((places, len(weights)))
    for start in range(0, len(weights), step):
        curve = trace(turned.labels, probabilities, weights[start : start + step], 1)
        rows = zip(np.ascontiguousarray(curve.true.T), np.ascontiguousarray(curve.false.T), strict=True)
        found[:, start : start + step] = np.stack([_places(true, false) for true, false in rows], axis=1)
    return found


def _places(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """One weighting's counts (thresholds + 1,) read at every place."""
    if not (true[-1] and false[-1]):
        return np.full(len(FALSE_RATES) + len(RECALLS) + len(POINTS), np.nan)
    sensitivity, fallout = true / true[-1], false / false[-1]
    # The last threshold that is allowed, and the way to the next, which images of equal score make a slope.
    here = np.searchsorted(fallout, FALSE_RATES + _ROUNDING, side="right") - 1
    following = np.minimum(here + 1, len(fallout) - 1)
    run = fallout[following] - fallout[here]
    part = np.divide(FALSE_RATES - fallout[here], run, out=np.zeros(len(here)), where=run > 0)
    roc = sensitivity[here] + np.clip(part, 0, 1) * (sensitivity[following] - sensitivity[here])
    reached = np.minimum(np.searchsorted(sensitivity, RECALLS - _ROUNDING), len(true) - 1)
    precision = true[reached] / (true[reached] + false[reached])
    points = [
        sensitivity[np.searchsorted(fallout, 1 - level + _ROUNDING, side="right") - 1]
        if kept == "specificity"
        else 1 - fallout[np.searchsorted(sensitivity, level - _ROUNDING)]
        for kept, level in POINTS
    ]
    return np.concatenate([roc, precision, points])


def _band(at: np.ndarray, value: np.ndarray, draws: np.ndarray, units: int, confidence: float) -> Band:
    """Student's t around the logit, the exact binomial bound at 0 and 1; draws: (p, resamples). See `bootstrap.interval`."""
    errors = np.array([standard_error(one, units) for one in draws])
    known = np.isfinite(value) & np.isfinite(errors)
    low, high = np.full((2, len(at)), np.nan)
    inner = known & (value > 0) & (value < 1)
    reach = errors[inner] * float(stats.t.ppf((1 + confidence) / 2, max(units - 1, 1)))
    place, scale = logit(value[inner]), value[inner] * (1 - value[inner])
    low[inner], high[inner] = expit(place - reach / scale), expit(place + reach / scale)
    bound = zero_event_bound(max(units, 1), (1 - confidence) / 2)
    low[known & (value == 1)], high[known & (value == 1)] = 1 - bound, 1.0
    low[known & (value == 0)], high[known & (value == 0)] = 0.0, bound
    # Without any spread the way to the logit and back would round past the value.
    return Band(at, value, np.minimum(low, value), np.maximum(high, value))


def _smooth(at: np.ndarray, value: np.ndarray, draws: np.ndarray, units: int, confidence: float) -> Band:
    """As `_band`, for values that come as near to 0 and 1 as they like, as precision and means over classes do.

    Half a group is added to either side of the value and of every resample (Haldane 1956), so that the logit has a scale at 0 and
    1 too. Where less than one group speaks against the rest the bounds of Clopper and Pearson 1934 for that share of one are
    kept as well: resamples of a sample without an error have none.
    """
    draws, place = logit((draws * units + 0.5) / (units + 1)), logit((value * units + 0.5) / (units + 1))
    errors = np.array([standard_error(one, units) for one in draws])
    known = np.isfinite(value) & np.isfinite(errors)
    reach = errors * float(stats.t.ppf((1 + confidence) / 2, max(units - 1, 1)))
    low, high = np.where(known, [expit(place - reach), expit(place + reach)], np.nan)
    tail, events = (1 - confidence) / 2, np.where(known, value, 0.5) * units
    rare = known & (units > 1) & ((events < 1) | (events > units - 1))
    some = events[rare]
    # A share of nothing has no distribution; its bound is the end of the scale.
    least = np.where(some > 0, stats.beta.ppf(tail, np.maximum(some, 1e-12), units - some + 1), 0.0)
    most = np.where(some < units, stats.beta.ppf(1 - tail, some + 1, np.maximum(units - some, 1e-12)), 1.0)
    low[rare], high[rare] = np.minimum(low[rare], least), np.maximum(high[rare], most)
    return Band(at, value, np.minimum(low, value), np.maximum(high, value))


def _margin(turned: Predictions) -> np.ndarray:
    """The log odds of class 1, which tell apart what probabilities near 1 do not."""
    return turned.logits[:, 1].astype(np.float64) - turned.logits[:, 0].astype(np.float64)


def _threshold(val: Predictions, kept: str, level: float) -> float:
    """The log odds from which on an image is called positive, so that validation keeps the level; nan where it lacks a class."""
    margin, member = _margin(val), val.labels == 1
    if not np.isfinite(margin).all() or member.all() or not member.any():
        return float("nan")
    if kept == "sensitivity":
        own = np.sort(margin[member])[::-1]
        return float(own[int(np.ceil(level * len(own) - _ROUNDING)) - 1])
    others = np.sort(margin[~member])[::-1]
    allowed = int(np.floor((1 - level) * len(others) + _ROUNDING))
    # The lowest score of any image above the first of the rest that may not be called positive; above all of them if there is none.
    above = margin[margin > others[allowed]] if allowed < len(others) else margin
    return float(above.min()) if above.size else float(np.nextafter(margin.max(), np.inf))
