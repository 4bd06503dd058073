"""How one way runs in a race, at the first seed: every rate where nothing is known of rates, else the one that was best before."""

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
        before = [(one, rates) for (one, _), rates in finished.items() if _trained(one) <= _trained(plan)]
        before.sort(key=lambda one: _trained(one[0]))
        self._rivals = [standing for _, rates in before for standing in rates if standing.trained]
        # What tunes norms or biases alone wants other rates than what tunes kernels.
        alike = [rates[0] for one, rates in before if rates[0].trained and one.leaves == plan.leaves]
        self._nearest = alike[-1] if alike and self._judged else None
        self._ended = [field.standing, *(rates[0] for _, rates in before)]
        self._incumbent = decide.best_standing(self._ended, self._judge)
        self._marks = decide.rungs(track.site.ground.config.train.epochs)

    def run(self) -> list[Standing]:
        """Trains what is missing. Returns all rates that ended, the best first: none of a way not begun, stopped or lost."""
        if self._judged and (why := decide.nothing_to_win(self._incumbent, self._ended, self._judge)):
            self._note(0, "not begun", list(self._arms), why)
            return []
        if self._nearest is None or self._nearest.rate not in self._arms:
            return self._ranked(self._run(list(self._arms)))
        return self._descend(self._nearest)

    def _descend(self, nearest: Standing) -> list[Standing]:
        """From the rate that was best in the nearest way that trains less, down while it may be too high: it diverges, or the way
        ends further behind that one than the margin and a lower rate mends it."""
        found: list[Standing] = []
        begun: list[float] = []
        why = ""
        for rate in sorted((rate for rate in self._arms if rate <= (nearest.rate or 0)), reverse=True):
            if why:
                self._note(0, "a lower rate", [rate], why)
            begun.append(rate)
            ended = self._run([rate])
            if ended is None:
                break
            if not ended:
                why = f"rate {begun[-1]:g} was lost"
                continue
            mends = decide.ranked([*ended, *found], self._judge)[0] is ended[0]
            found += ended
            why = decide.left_behind(ended[0], nearest, self._judge)
            if not mends or not why:
                break
        if left := [rate for rate in self._arms if rate not in begun]:
            self._note(0, "not begun", left, f"{nearest.name} was best at rate {nearest.rate:g}")
        return self._ranked(found)

    def _run(self, rates: Sequence[float]) -> list[Standing] | None:
        """These rates, side by side, to their end; None where they were stopped on the way."""
        heat = Heat(self._track, {rate: self._arms[rate] for rate in rates})
        history: dict[float, list[Predictions | None]] = {rate: [] for rate in rates}
        for rung, epoch in enumerate(self._marks[:-1]):
            answers = heat.answers_at(epoch)
            for rate in rates:
                history[rate].append(answers.get(rate))
            if not self._judged or len(rates) > 1 or not answers:
                continue
            ((rate, now),) = answers.items()
            way = Standing(self._name, tuple(history[rate]), now, True, rate)
            verdict = decide.can_win(way, rung, self._rivals, self._incumbent, self._judge)
            score = decide.shown_score(now, self._judge)
            if not verdict.goes_on:
                heat.stop([rate], epoch, f"stopped by the race: {verdict.why}")
            self._note(epoch, "goes on" if verdict.goes_on else "stopped", [rate], verdict.why, score)
            if not verdict.goes_on:
                return None
        ended = heat.finish()
        found = [Standing(self._name, (*history[rate], last), last, self._trained, rate) for rate, last in ended.items()]
        if found:
            best = decide.ranked(found, self._judge)[0]
            self._note(self._marks[-1], "ended", list(ended), "went to the end", decide.shown_score(best.last, self._judge))
        if lost := [rate for rate in rates if rate not in ended]:
            self._note(self._marks[-1], "lost", lost, "did not go to the end with a score that can be relied on")
        return found

    def _ranked(self, found: Sequence[Standing] | None) -> list[Standing]:
        return decide.ranked(found or [], self._judge)

    def _note(self, epoch: int, what: str, rates: Sequence[float], why: str, score: float | None = None) -> None:
        trials = [self._arms[rate].id for rate in rates]
        self._decisions.append(decide.decision(self._name, epoch, what, trials, why, score))


def _trained(plan: FreezePlan) -> int:
    return len(plan.trainable_stages)
