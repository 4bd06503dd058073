"""How much worse than the best each plan may be: one-sided bounds that hold together."""

import numpy as np
from scipy import stats
from scipy.special import expit, logit

from fteng.analysis.bootstrap import standard_error


def lower_bounds(
    points: np.ndarray, draws: np.ndarray, best: int, margin: float, units: int, confidence: float, *, higher_is_better: bool
) -> np.ndarray:
    """(k,): the least that each plan's difference to `best` may be, in points of the metric (less than 0: worse); nan where no
    resample moves the difference.

    points: (k,) scores; draws: (k, resamples) the same on resamples; units: independent groups. Near 0 and 1 a score that is too
    high by luck has too small an error as well, so bounds on plain differences are too bold. As in `bootstrap.interval` scores in
    [0, 1] are compared on the scale of the logit (Pepe 2003, section 5.2.5), losses on that of the log: is the plan's score above
    that of the best less the margin? The error is that of the difference there, to first order, so that a resample without a fault
    is no infinity. All bounds hold together at `confidence`, by the largest deviation of a resample among plans (Dunnett 1955,
    Romano and Wolf 2005), in either direction: what skew is left speaks for neither. How often they are wrong:
    `python -m benchmarks.alarms`.
    """
    limit = points[best] + (-margin if higher_is_better else margin)
    slopes = np.array([_slopes(point, limit, higher_is_better) for point in points])
    moved = slopes[:, :1] * draws - slopes[:, 1:] * draws[best]
    errors = np.array([standard_error(row, units) for row in moved])
    # Where no resample tells two apart the scale would, which bends.
    apart = np.nanmax(np.abs(draws - draws[best]), axis=1, initial=0.0) > 0
    told = np.isfinite(errors) & (errors > 0) & apart
    found = np.full(len(points), np.nan)
    if not told.any():
        return found
    deviations = (moved[told] - np.nanmean(moved[told], axis=1, keepdims=True)) / errors[told, None]
    largest = np.concatenate([deviations.max(axis=0), (-deviations).max(axis=0)])
    step = reach(largest, units, confidence) * errors
    for k in np.flatnonzero(told):
        found[k] = _lowered(points[k], limit, step[k], higher_is_better) - (points[best] if higher_is_better else -points[best])
    return found


def reach(deviations: np.ndarray, units: int, confidence: float) -> float:
    """Their quantile (resamples,), as Student's t in place of a normal deviate: few groups tell their own spread badly."""
    defined = deviations[np.isfinite(deviations)]
    return float(stats.t.isf(stats.norm.sf(np.quantile(defined, confidence)), max(units - 1, 1)))


def _is_inside(point: float, limit: float, higher_is_better: bool) -> bool:
    """Whether the scale has a place for both; else points are compared as they are."""
    return min(point, limit) > 0 and (not higher_is_better or max(point, limit) < 1)


def _slopes(point: float, limit: float, higher_is_better: bool) -> tuple[float, float]:
    """Of the scale, more is better, at the plan's score and at the best one's less the margin."""
    if not _is_inside(point, limit, higher_is_better):
        return (1.0, 1.0) if higher_is_better else (-1.0, -1.0)
    if higher_is_better:
        return 1 / (point * (1 - point)), 1 / (limit * (1 - limit))
    return -1 / point, -1 / limit


def _lowered(point: float, limit: float, step: float, higher_is_better: bool) -> float:
    """The score so much worse on the scale, in points; of a loss its negative."""
    if not _is_inside(point, limit, higher_is_better):
        return point - step if higher_is_better else -point - step
    return float(expit(logit(point) - step)) if higher_is_better else -point * float(np.exp(step))
