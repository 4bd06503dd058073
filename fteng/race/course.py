"""How one way runs in a race, at the first seed: at every rate where nothing is known of rates, else at the best ones near it."""

from collections.abc import Mapping, Sequence
from typing import Any

from fteng.freeze.plan import FreezePlan
from fteng.race import decide
from fteng.race.decide import Standing
from fteng.race.field import Field, Way, way_name
from fteng.race.heat import Heat
from fteng.results import Predictions
from fteng.sweep.track import Track


class Course:
    """One plan and variant. finished: of the pretrained ways that have ended, all rates that did, the best first; decisions:
    written to as they fall."""

    def __init__(
        self,
        track: Track,
        field: Field,
        way: Way,
        finished: Mapping[Way, Sequence[Standing]],
        decisions: list[dict[str, Any]],
    ) -> None:
        plan, variant = way
        self._track, self._judge, self._decisions = track, field.judge, decisions
        self._arms = field.first_seed(way)
        self._name, self._trained = way_name(way), any(plan.trains)
        # A control is there to be compared with, whatever it has to win.
        self._judged = self._trained and variant.init == "pretrained"
        # What trains more says nothing against this one: it may be as good, and train less.
        before = [rates for (one, _), rates in finished.items() if _trained(one) <= _trained(plan)]
        self._rivals = [standing for rates in before for standing in rates if standing.trained]
        self._nearest = _nearest(plan, finished) if self._judged else []
        self._ended = [field.standing, *(rates[0] for rates in before)]
        self._incumbent = decide.best_standing(self._ended, self._judge)
        self._marks = decide.rungs(track.site.ground.config.train.epochs)

    def run(self) -> list[Standing]:
        """Trains what is missing. Returns all rates that ended, the best first: none of a way not begun, stopped or lost."""
        if self._judged and (why := decide.nothing_to_win(self._incumbent, self._ended, self._judge)):
            self._note(0, "not begun", list(self._arms), why)
            return []
        carried = [one.rate for one in decide.contenders(self._nearest, self._judge) if one.rate in self._arms]
        return self._descend(carried) if carried else decide.ranked(self._run(list(self._arms)) or [], self._judge)

    def _descend(self, carried: Sequence[float]) -> list[Standing]:
        """The rates that were best in the nearest way; then lower ones, while these may be too high: they are lost, or the way ends
        further behind one that trains less than the margin, and a lower rate mends that."""
        nearest, found, begun, rates = self._nearest[0], list[Standing](), list(carried), list(carried)
        trains_less = any(one is nearest for one in self._rivals)
        lower = sorted(rate for rate in self._arms if rate < min(carried))
        while (ended := self._run(rates)) is not None:
            found += ended
            best = decide.ranked(found, self._judge)[0] if found else None
            why = "" if ended else "every rate above was lost"
            # A lower rate that mends nothing is the last.
            if trains_less and any(one is best for one in ended):
                assert best is not None
                why = decide.left_behind(best, nearest, self._judge)
            if not why or not lower:
                break
            rates = [lower.pop()]
            begun += rates
            self._note(0, "a lower rate", rates, why)
        if left := [rate for rate in self._arms if rate not in begun]:
            self._note(0, "not begun", left, f"{nearest.name} was best at rate {nearest.rate:g}")
        return decide.ranked(found, self._judge)

    def _run(self, rates: Sequence[float]) -> list[Standing] | None:
        """These rates, side by side, to their end; None where all that were not lost were stopped on the way."""
        heat = Heat(self._track, {rate: self._arms[rate] for rate in rates})
        history: dict[float, list[Predictions | None]] = {rate: [] for rate in rates}
        stopped: list[float] = []
        for rung, epoch in enumerate(self._marks[:-1]):
            answers = heat.answers_at(epoch)
            for rate in rates:
                history[rate].append(answers.get(rate))
            for rate, now in answers.items() if self._judged else ():
                way = Standing(self._name, tuple(history[rate]), now, True, rate)
                verdict = decide.can_win(way, rung, self._rivals, self._incumbent, self._judge)
                if not verdict.goes_on:
                    heat.stop([rate], epoch, f"stopped by the race: {verdict.why}")
                    stopped.append(rate)
                if not verdict.goes_on or len(rates) == 1:
                    what = "goes on" if verdict.goes_on else "stopped"
                    self._note(epoch, what, [rate], verdict.why, decide.shown_score(now, self._judge))
        ended = heat.finish()
        found = [Standing(self._name, (*history[rate], last), last, self._trained, rate) for rate, last in ended.items()]
        if found:
            best = decide.ranked(found, self._judge)[0]
            self._note(self._marks[-1], "ended", list(ended), "went to the end", decide.shown_score(best.last, self._judge))
        if lost := [rate for rate in rates if rate not in ended and rate not in stopped]:
            self._note(self._marks[-1], "lost", lost, "did not go to the end with a score that can be relied on")
        return None if stopped and not found else found

    def _note(self, epoch: int, what: str, rates: Sequence[float], why: str, score: float | None = None) -> None:
        trials = [self._arms[rate].id for rate in rates]
        self._decisions.append(decide.decision(self._name, epoch, what, trials, why, score))


def _nearest(plan: FreezePlan, finished: Mapping[Way, Sequence[Standing]]) -> list[Standing]:
    """Of the way that trains most nearly as much, of two the one that trains less; norms or biases alone want other rates than
    kernels. None where there is none."""
    alike = [(one, rates) for (one, _), rates in finished.items() if rates[0].trained and one.leaves == plan.leaves]
    alike.sort(key=lambda one: (abs(_trained(one[0]) - _trained(plan)), _trained(one[0])))
    return list(alike[0][1]) if alike else []


def _trained(plan: FreezePlan) -> int:
    return len(plan.trainable_stages)
