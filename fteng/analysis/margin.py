"""How much worse than the best each plan may be: one-sided bounds that hold together."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats
from scipy.special import expit, logit

from fteng.analysis.bootstrap import standard_error
from fteng.analysis.compare import Scores, training_luck, with_luck


def lower_bounds(
    found: Sequence[Scores], best: int, margin: float, units: int, confidence: float, *, higher_is_better: bool
) -> np.ndarray:
    """(k,): the least that each plan's difference to the one at `best` may be, in points of the metric (less than 0: worse); nan
    where no resample moves the difference. They decide at this margin: at another one the errors are a little others.

    units: independent groups. Near 0 and 1 a score that is too high by luck has too small an error as well, so bounds on plain
    differences are too bold. As in `bootstrap.interval` scores in [0, 1] are compared on the scale of the logit (Pepe 2003,
    section 5.2.5), losses on that of the log: is the plan's score above that of the best less the margin? Luck in training is
    told there too. Errors are to first order, so that a resample without a fault is no infinity. All bounds hold together at
    `confidence`, by the largest deviation of a resample among plans (Dunnett 1955, Romano and Wolf 2005), in either direction:
    what skew is left speaks for neither. How often they are wrong: `python -m benchmarks.alarms`.
    """
    top = found[best].point
    limit = top + (-margin if higher_is_better else margin)
    scale = _Scale(higher_is_better, straight=not 0 < limit < (1 if higher_is_better else np.inf))
    # A score without a fault, or of faults alone, is taken for one of half a group.
    places = [scale.inside(one.point, 0.5 / units) for one in found]
    slopes = [scale.slope(place) for place in places]
    # What moves each plan's score, on the scale at its own place; and, last, the best one's at the limit that it sets.
    scaled = [
        one._replace(draws=slope * one.draws, seeds=slope * one.seeds)
        for one, slope in zip([*found, found[best]], [*slopes, scale.slope(limit)], strict=True)
    ]
    luck = training_luck(scaled[:-1])
    draws = with_luck(scaled, luck)
    moved = draws[:-1] - draws[-1]
    errors = np.array([standard_error(row, units) for row in moved])
    # Where no resample tells two apart the scale would, which bends.
    apart = np.array([luck > 0 or not np.array_equal(one.draws, found[best].draws, equal_nan=True) for one in found])
    told = np.isfinite(errors) & (errors > 0) & apart
    told[best] = False
    bounds = np.full(len(found), np.nan)
    if not told.any():
        return bounds
    deviations = (moved[told] - np.nanmean(moved[told], axis=1, keepdims=True)) / errors[told, None]
    wide = reach(np.concatenate([deviations.max(axis=0), (-deviations).max(axis=0)]), units, confidence)
    sign = 1 if higher_is_better else -1
    for k in np.flatnonzero(told).tolist():
        worse = scale.worse(places[k], wide * errors[k])
        bounds[k] = sign * (min(worse, found[k].point) if higher_is_better else max(worse, found[k].point)) - sign * top
    return bounds


def reach(deviations: np.ndarray, units: int, confidence: float) -> float:
    """Their quantile (resamples,), as Student's t in place of a normal deviate: few groups tell their own spread badly."""
    defined = deviations[np.isfinite(deviations)]
    return float(stats.t.isf(stats.norm.sf(np.quantile(defined, confidence)), max(units - 1, 1)))


class _Scale(NamedTuple):
    """On which more is better. straight: points as they are, where the limit lies outside of what the scale has a place for."""

    higher_is_better: bool
    straight: bool

    def inside(self, point: float, least: float) -> float:
        """The point, or the nearest that the scale has a place for."""
        if self.straight:
            return point
        return min(max(point, least), 1 - least) if self.higher_is_better else max(point, 1e-9)

    def slope(self, point: float) -> float:
        """How much of the scale a point of the metric is there."""
        if self.straight:
            return 1.0 if self.higher_is_better else -1.0
        return 1 / (point * (1 - point)) if self.higher_is_better else -1 / point

    def worse(self, point: float, step: float) -> float:
        """The score that lies so far down on the scale."""
        if self.straight:
            return point - step if self.higher_is_better else point + step
        # Beyond that a loss is no number.
        return float(expit(logit(point) - step)) if self.higher_is_better else point * float(np.exp(min(step, 300.0)))
