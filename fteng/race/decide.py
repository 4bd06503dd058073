"""Which trials of a race go on, decided on validation alone: pure functions of answers that stand on disk, so that a race that was
killed decides again what it had decided. Imports no jax."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from fteng.analysis.bootstrap import informative_groups, standard_error
from fteng.analysis.compare import scores
from fteng.analysis.metrics import METRICS
from fteng.analysis.recommend import FEWEST_GROUPS, Candidate, recommend
from fteng.results import Predictions

# What trains more stages starts lower and gains more: a way may gain this many times as much as any before it. `benchmarks.race`
# counts how often fewer times would be wrong.
_GROWTH = 4.0
# A logit so far above the others that no metric tells it from certainty.
_SURE = 30.0


class Judge(NamedTuple):
    """How trials are compared. weights: (resamples, n) of val, the same for all; see `analysis.recommend` for the rest."""

    metric: str
    margin: float
    confidence: float
    weights: np.ndarray


class Standing(NamedTuple):
    """One way of training (a plan and a variant) at one rate. rungs: its answers to val at every rung, None where it
    was not asked, since it ended before there was a race; last: the newest of them; trained: whether any stage trains; rate: of
    `last`, None of the linear classifier."""

    name: str
    rungs: tuple[Predictions | None, ...]
    last: Predictions
    trained: bool
    rate: float | None


class Verdict(NamedTuple):
    """goes_on, why: in words, with the numbers it rests on."""

    goes_on: bool
    why: str


def rungs(epochs: int) -> tuple[int, ...]:
    """Epochs after which ways are compared, thirds of the whole; the last is the end."""
    return tuple(sorted({-(-epochs * part // 3) for part in (1, 2, 3)}))


def ranked(standings: Sequence[Standing], judge: Judge) -> list[Standing]:
    """In order of merit: by the score of the last answers, ties by log loss, then the lower rate first."""

    def merit(one: Standing) -> tuple[float, float, float]:
        return _score(one.last, judge.metric), _score(one.last, "log_loss"), -(one.rate or 0.0)

    return sorted(standings, key=merit, reverse=True)


def contenders(standings: Sequence[Standing], judge: Judge) -> list[Standing]:
    """Of one way, the best and what ended no further behind it than the margin: few images do not tell these apart."""
    order = ranked(standings, judge)
    return [one for one in order if _score(order[0].last, judge.metric) - _score(one.last, judge.metric) <= judge.margin]


def left_behind(one: Standing, nearest: Standing, judge: Judge) -> str:
    """In words, where a way ended further behind the nearest one, which trains less, than the margin, and its rate may be too high
    for it; else empty."""
    behind = _score(nearest.last, judge.metric) - _score(one.last, judge.metric)
    if not behind > judge.margin:
        return ""
    return f"at rate {one.rate:g} it ends {behind:.3f} behind {nearest.name}, more than the margin of {judge.margin:g}"


def can_win(way: Standing, rung: int, before: Sequence[Standing], incumbent: Standing, judge: Judge) -> Verdict:
    """Whether a way that stands at `rung` may still get the best score. before: every rate that ended of ways that train less.

    It goes on unless two things are shown, each by a paired bootstrap over groups with one-sided confidence: that it lies behind
    the best of those before it at the same rung and rate (like with like: a high rate scores low early and gains late), and that,
    even if it gains from here four times as much as the one of them that gained most, it ends behind the best there is. Where none
    has ended at its rate nobody knows what may be gained: it goes on.
    """
    rivals = [(one, answers) for one in before if one.rate == way.rate and (answers := one.rungs[rung]) is not None]
    gains = [_score(one.last, judge.metric) - _score(answers, judge.metric) for one, answers in rivals]
    gains = [gain for gain in gains if np.isfinite(gain)]
    if not gains:
        return Verdict(True, "nothing has ended at this rate yet, so what may still be gained is not known")
    now = way.last
    leader, led = max(rivals, key=lambda rival: _score(rival[1], judge.metric))
    behind, reach = _difference(now, led, judge)
    if not behind + reach < 0:
        return Verdict(True, f"at this rung {behind:+.3f} (up to {behind + reach:+.3f}) against {leader.name}")
    headroom = _GROWTH * max(0.0, *gains)
    short, reach_end = _difference(now, incumbent.last, judge)
    most = short + headroom + reach_end
    told = f"{behind:+.3f} against {leader.name} at this rung, and with four times the largest gain yet ({headroom:.3f})"
    if not most < 0:
        return Verdict(True, f"{told} it may end up to {most:+.3f} against {incumbent.name}")
    return Verdict(False, f"{told} it would end at most {most:+.3f} against {incumbent.name}")


def nothing_to_win(incumbent: Standing, ended: Sequence[Standing], judge: Judge) -> str:
    """In words, where the recommendation would take the best of those that `ended` even beside answers without a fault; else empty.
    By its score alone few images would end a race too early: a score near the top is often luck."""
    answers, label = incumbent.last, METRICS[judge.metric].label
    score = shown_score(answers, judge)
    if score is None:
        return ""
    right = np.where(np.arange(answers.logits.shape[1]) == answers.labels[:, None], _SURE, 0.0).astype(np.float32)
    others = [one.last for one in ended if one.name != incumbent.name]
    rivals = [
        Candidate(name, "", None, rank, 0.0, [rival], [])
        for rank, (name, rival) in enumerate(
            [(incumbent.name, answers), ("without a fault", answers._replace(logits=right)), *(("", other) for other in others)]
        )
    ]
    found = recommend(rivals, judge.metric, judge.margin, judge.confidence, judge.weights)
    bound = found.comparisons[0].bound
    if found.groups < FEWEST_GROUPS or found.comparisons[0].verdict not in ("best", "not worse"):
        return ""
    least = f"even answers without a fault would be better by no more than {max(0.0, -bound):.3f}"
    return f"{incumbent.name} has {label} {score:.3f}, and {least}, within the margin of {judge.margin:g}"


def best_standing(standings: Sequence[Standing], judge: Judge) -> Standing:
    """Of those that ended, the one with the best score; of equal ones the first."""
    return max(standings, key=lambda one: _score(one.last, judge.metric))


def shown_score(answers: Predictions, judge: Judge) -> float | None:
    """The score as the record shows it; None = undefined."""
    value = _score(answers, judge.metric)
    return abs(value) if np.isfinite(value) else None


def _score(answers: Predictions, metric: str) -> float:
    """Larger is better, whatever the metric; minus infinity where undefined."""
    sign = 1.0 if METRICS[metric].higher_is_better else -1.0
    value = scores([answers], metric, np.ones((1, len(answers.labels)))).point
    return sign * value if np.isfinite(value) else -np.inf


def _difference(one: Predictions, other: Predictions, judge: Judge) -> tuple[float, float]:
    """(how much better, one-sided reach of its bound); the reach is infinite where no bound can be told."""
    sign = 1.0 if METRICS[judge.metric].higher_is_better else -1.0
    first, second = (scores([answers], judge.metric, judge.weights) for answers in (one, other))
    units = informative_groups(one, judge.metric)
    error = standard_error(first.draws - second.draws, units)
    difference = sign * (first.point - second.point)
    if not np.isfinite(error) or not np.isfinite(difference) or units < 2:
        return (difference if np.isfinite(difference) else -np.inf), np.inf
    return difference, float(stats.t.ppf(judge.confidence, units - 1)) * float(error)


def decision(way: str, epoch: int, what: str, trials: Sequence[str], why: str, score: float | None) -> dict[str, Any]:
    """A line of the record: after `epoch` epochs of `way`, `what` happened to `trials`."""
    return {"way": way, "epoch": epoch, "decision": what, "trials": list(trials), "why": why, "score": score}
