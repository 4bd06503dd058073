"""Which depth to use: the shallowest tuning that is not worse than the best, decided on validation alone."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from fteng.analysis.bootstrap import depth_score, informative_groups, standard_error, zero_event_bound
from fteng.analysis.compare import Scores, check_paired, scores, training_luck, with_luck
from fteng.analysis.margin import lower_bounds, reach
from fteng.analysis.metrics import METRICS, is_finite
from fteng.results import Predictions

# Below this Student's t around a bootstrap is no longer to be trusted, and nothing is shown to be `not worse`.
FEWEST_GROUPS = 10
_UNDEFINED = (np.nan, np.nan, np.nan, np.nan, np.nan, np.nan)


class Candidate(NamedTuple):
    """A way to use the network. freeze_depth: None for a stage set; trainable_stages: how many train; val, test: one a seed."""

    name: str
    tap: str
    freeze_depth: int | None
    trainable_stages: int
    flops_per_example: float
    val: list[Predictions]
    test: list[Predictions]


class Comparison(NamedTuple):
    """A candidate against the best, on val; nan = undefined.

    index: into the candidates; score: its mean over seeds, in points of the metric; difference: how much better (+) or worse
    (-) it is, also where lower is better; low, high: its interval, and p for no difference, corrected over all pairs; bound:
    the one-sided lower bound that decides at this margin, see `recommend`, on a scale of its own, so it may lie below low;
    verdict: `best`, `not worse`, `worse` or `unclear`.
    """

    index: int  # pyright: ignore[reportIncompatibleMethodOverride]
    score: float
    difference: float
    low: float
    high: float
    bound: float
    p: float
    verdict: str


class Recommendation(NamedTuple):
    """index, best: into the candidates; comparisons: one a candidate, in their order; reason: in plain words; excluded: seeds
    and candidates that took no part, by name; groups: how many independent ones the score on val is worth, see
    `bootstrap.informative_groups`."""

    index: int  # pyright: ignore[reportIncompatibleMethodOverride]
    best: int
    comparisons: tuple[Comparison, ...]
    reason: str
    excluded: tuple[str, ...]
    groups: int


def best_rate(rates: Mapping[float, Sequence[Predictions]], metric: str) -> float | None:
    """The learning rate with the best mean score over its seeds; rates: of one plan, each rate's answers to val, one a seed.

    Diverged seeds (a logit is not finite) are left out, and only rates with the most seeds left compete: a mean over those that
    survived is not comparable. Of equal rates the lowest; None where none has a score. The choice flatters the score of each
    plan, all by about as much if all have tried as many rates.
    """
    sound = {rate: [seed for seed in seeds if is_finite(seed)] for rate, seeds in rates.items()}
    scored = {rate: depth_score(seeds, metric) for rate, seeds in sound.items() if seeds}
    scored = {rate: score for rate, score in scored.items() if np.isfinite(score)}
    if not scored:
        return None
    most = max(len(sound[rate]) for rate in scored)
    sign = 1 if METRICS[metric].higher_is_better else -1
    return max((rate for rate in scored if len(sound[rate]) == most), key=lambda rate: (sign * scored[rate], -rate))


def recommend(
    candidates: Sequence[Candidate], metric: str, margin: float, confidence: float, weights: np.ndarray
) -> Recommendation:
    """One candidate a plan, at its best rate; weights: (resamples, n) of val from `group_weights`.

    The rule, a non-inferiority test (Piaggio et al. 2012, the CONSORT extension) by a paired bootstrap over groups:

    1. The best is the one with the best mean score on val; of equal ones the shallowest.
    2. A candidate is `not worse` if the one-sided lower bound of its difference to the best lies above -margin, in points of
       the metric. The bounds of all candidates hold together at `confidence` (`margin.lower_bounds`). Each for itself would,
       with several depths that all lie just beyond the margin, let one of them pass too often.
    3. It is `worse` if its interval lies below 0, which is so exactly where p < 1 - confidence. Here the best has an unfair
       lead, having been picked for its score (the winner's curse), so interval and p are corrected over ALL pairs (Tukey's
       range, by the same bootstrap). In step 2 that lead only makes it harder to pass. What is worse by less than the margin
       is `not worse`.
    4. Of the best and those not worse, the one that trains the fewest stages is recommended, then the cheapest forward pass.

    Luck in training counts: the variance between seeds, pooled over candidates, widens every bound; with one seed each it
    cannot be told, and the reason says so. Absence of evidence decides nothing: on a small validation set no bound is tight
    enough, below 10 groups (of the rarest class, where classes weigh the same) none is looked at, and the best itself is
    recommended, which may then owe its place to luck. `test` takes no part. Diverged seeds are left out and named. Raises
    ValueError where no candidate has a score, or they answer different images.
    """
    sound = [[seed for seed in candidate.val if is_finite(seed)] for candidate in candidates]
    usable = [i for i, seeds in enumerate(sound) if seeds and np.isfinite(depth_score(seeds, metric))]
    if not usable:
        raise ValueError(f"no candidate has a defined {metric} on val")
    check_paired([sound[i] for i in usable])
    found = [scores(sound[i], metric, weights) for i in usable]
    sign = 1.0 if METRICS[metric].higher_is_better else -1.0
    best = max(range(len(usable)), key=lambda k: (sign * found[k].point, _shallowness(candidates[usable[k]])))
    units = informative_groups(sound[usable[best]][0], metric)
    judged = _judge(found, best, sign, units, margin, confidence)
    comparisons = [Comparison(i, *_UNDEFINED, "unclear") for i in range(len(candidates))]
    for i, comparison in zip(usable, judged, strict=True):
        comparisons[i] = comparison._replace(index=i)
    passed = [i for i in usable if comparisons[i].verdict in ("best", "not worse")]
    chosen = max(passed, key=lambda i: _shallowness(candidates[i]))
    excluded = _excluded(candidates, sound, usable, metric)
    sample = _Sample(units, max(len(sound[i]) for i in usable), margin, confidence)
    reason = _reason(candidates, comparisons, chosen, usable[best], metric, sample)
    reason += f" Left out: {'; '.join(excluded)}." if excluded else ""
    return Recommendation(chosen, usable[best], tuple(comparisons), reason, excluded, units)


def _shallowness(candidate: Candidate) -> tuple[float, float]:
    return -candidate.trainable_stages, -candidate.flops_per_example


def _judge(found: Sequence[Scores], best: int, sign: float, units: int, margin: float, confidence: float) -> list[Comparison]:
    """Every one against the best; index is still to be set."""
    draws, count = sign * with_luck(found, training_luck(found)), len(found)
    errors = np.array([[standard_error(one - other, units) for other in draws] for one in draws])
    told = np.isfinite(errors) & (errors > 0)
    # The largest deviation in any direction between any two.
    between = [np.abs(_deviation(draws, errors, k, j)) for k in range(count) for j in range(k) if told[k, j]]
    largest = np.max(between, axis=0) if between else np.zeros(1)
    # A resample that lacks a class says nothing, neither for the interval nor for p.
    largest = largest[np.isfinite(largest)]
    two_sided = reach(largest, units, confidence)
    bounds = lower_bounds(found, best, margin, units, confidence, higher_is_better=sign > 0)
    rows = []
    for k, depth in enumerate(found):
        difference, error = sign * (depth.point - found[best].point), errors[k, best]
        row = Comparison(-1, depth.point, difference, *_UNDEFINED[:4], "unclear")
        if k == best:
            row = row._replace(low=0.0, high=0.0, bound=0.0, p=1.0, verdict="best")
        elif np.isfinite(error):
            # Where no resample tells two apart: in how many groups could they differ, at most, and none has shown it?
            unseen = zero_event_bound(units, 1 - confidence)
            wide = two_sided * error if error > 0 else unseen
            bound = bounds[k] if not np.isnan(bounds[k]) else difference - unseen
            always = np.inf if difference else 0.0
            standing = stats.norm.isf(stats.t.sf(abs(difference) / error, units - 1)) if error > 0 else always
            p = float((1 + np.sum(largest >= standing)) / (1 + len(largest)))
            low, high = difference - wide, difference + wide
            verdict = "not worse" if bound > -margin else "worse" if high < 0 else "unclear"
            row = Comparison(-1, depth.point, difference, low, high, bound, p, verdict if units >= FEWEST_GROUPS else "unclear")
        rows.append(row)
    return rows


def _deviation(draws: np.ndarray, errors: np.ndarray, k: int, j: int) -> np.ndarray:
    """(resamples,): how far a resample's difference lies from the mean one, in standard errors."""
    difference = draws[k] - draws[j]
    return (difference - np.nanmean(difference)) / errors[k, j]


class _Sample(NamedTuple):
    """What a claim rests on."""

    units: int
    seeds: int
    margin: float
    confidence: float


def _excluded(
    candidates: Sequence[Candidate], sound: Sequence[Sequence[Predictions]], usable: Sequence[int], metric: str
) -> tuple[str, ...]:
    names = []
    for i, (candidate, seeds) in enumerate(zip(candidates, sound, strict=True)):
        lost = len(candidate.val) - len(seeds)
        if lost:
            names.append(f"{candidate.name} ({lost} of {len(candidate.val)} seeds diverged)")
        elif i not in usable:
            names.append(f"{candidate.name} ({METRICS[metric].label} is undefined)")
    return tuple(names)


def _reason(
    candidates: Sequence[Candidate],
    comparisons: Sequence[Comparison],
    chosen: int,
    best: int,
    metric: str,
    sample: _Sample,
) -> str:
    val, label = candidates[best].val[0], METRICS[metric].label
    images, groups = len(val.labels), len(np.unique(val.groups))
    shown = f"{images:,} images" + (f" of {groups:,} groups" if groups != images else "")
    own_seeds = len(candidates[best].val)
    shown += f", mean of {own_seeds} seeds" if own_seeds > 1 else ""
    top = f"{candidates[best].name} has the best {label} on validation, {comparisons[best].score:.3f} ({shown})"
    rivals = [row for row, one in zip(comparisons, candidates, strict=True) if _shallowness(one) > _shallowness(candidates[best])]
    if chosen != best:
        row = comparisons[chosen]
        text = (
            f"{top}; {candidates[chosen].name} has {row.score:.3f} and trains less. With {sample.confidence:.0%} confidence"
            f" it is at most {max(-row.bound, 0):.3f} worse, within the margin of {sample.margin:g}."
        )
    elif not rivals:
        text = f"{top}, and nothing that trains less, or ends earlier, was tried."
    elif sample.units < FEWEST_GROUPS:
        few = f"with {sample.units} group{'' if sample.units == 1 else 's'} to go by nothing can be shown to be as good"
        text = f"{top}; {few}, so the best itself is recommended."
    else:
        worse = sum(row.verdict == "worse" for row in rivals)
        counts = {"shown to be worse": worse, "not settled by so few images and seeds": len(rivals) - worse}
        told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        text = f"{top}; nothing shallower was shown to be at most {sample.margin:g} worse ({told})."
    one_seed = "" if sample.seeds > 1 else " One seed each: luck in training is not in these bounds."
    return text[0].upper() + text[1:] + one_seed
