"""The race itself: from what trains little to what trains much, rates by successive halving, depths while they can win, then seeds
of what is left."""

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fteng import paths
from fteng.analysis.recommend import Candidate, best_rate, recommend
from fteng.distributed import agree, is_main, wait
from fteng.freeze.plan import FreezePlan, describe
from fteng.paths import StudyPaths
from fteng.programs import Shape
from fteng.race import decide
from fteng.race.decide import Judge, Standing
from fteng.results import Predictions, read_predictions, write_predictions
from fteng.sweep.cost import plan_work
from fteng.sweep.run import close_trial, fresh_shapes, meter, open_trial, run_exhaustive
from fteng.sweep.track import Track, inputs_of
from fteng.train.population import advance, judge
from fteng.train.trial import Running, steps_per_epoch, total_steps
from fteng.trials import TrialSpec, Variant

Way = tuple[FreezePlan, Variant]


class Field(NamedTuple):
    """Who races. ways: from the cheapest on, each with its trials by rate and seed; probes: what stands already, as candidates;
    judge: how; settings: the same in words, for the record."""

    ways: Mapping[Way, Mapping[tuple[float, int], TrialSpec]]
    probes: Sequence[Candidate]
    judge: Judge
    settings: Mapping[str, Any]

    @property
    def standings(self) -> list[Standing]:
        """Of the probes."""
        return [Standing(probe.name, (), probe.val[0], False) for probe in self.probes]


def make_field(specs: Sequence[TrialSpec], probes: Sequence[Candidate], judge: Judge, settings: Mapping[str, Any]) -> Field:
    """All that races."""
    ways: dict[Way, dict[tuple[float, int], TrialSpec]] = {}
    for spec in specs:
        ways.setdefault((spec.plan, spec.variant), {})[spec.learning_rate, spec.seed] = spec
    return Field(ways, probes, judge, settings)


def run_race(track: Track, field: Field, record: Path) -> None:
    """Every decision in the order in which it falls, and with it the trials it needs. record: race.json, written after each way.

    Decisions are made from what stands on disk, so a race that was stopped, or got more rates or seeds, comes to the same ones
    and trains only what is missing. What stands there, of several processes the first finds out, and tells.
    """
    plan_work(track, [spec for trials in field.ways.values() for spec in trials.values()])
    decisions: list[dict[str, Any]] = []
    finished: list[Standing] = []
    for way in field.ways:
        standing = _run_way(track, field, way, finished, decisions)
        if standing is not None and way[1].init == "pretrained":
            finished.append(standing)
        _write(track, field, record, decisions, over=False)
    _run_seeds(track, field, decisions)
    _write(track, field, record, decisions, over=True)


def is_over(study: StudyPaths, specs: Sequence[TrialSpec], settings: Mapping[str, Any]) -> bool:
    """Whether the race over these trials, judged so, has ended, and all that it ran still stands."""
    if not study.race.exists():
        return False
    value = paths.read_json(study.race)
    ran = (trial for row in value["decisions"] if row["decision"] != "not begun" for trial in row["trials"])
    same = value["trials"] == [spec.id for spec in specs] and value["judge"] == dict(settings)
    return value["over"] and same and all(study.trial(trial).result.exists() for trial in ran)


def _run_way(
    track: Track, field: Field, way: Way, finished: Sequence[Standing], decisions: list[dict[str, Any]]
) -> Standing | None:
    """One plan and variant with all its rates, at the first seed. Returns how it ended, None where it was stopped or lost."""
    plan, variant = way
    name, trained, control = way_name(way), any(plan.trains), variant.init != "pretrained"
    seed = next(iter(field.ways[way]))[1]
    arms = {rate: spec for (rate, one), spec in field.ways[way].items() if one == seed}
    incumbent = decide.best_standing([*field.standings, *finished], field.judge)

    def note(epoch: int, what: str, rates: Sequence[float], why: str, score: float | None = None) -> None:
        decisions.append(decide.decision(name, epoch, what, [arms[rate].id for rate in rates], why, score))

    if trained and not control and (why := decide.nothing_to_win(incumbent, field.judge)):
        note(0, "not begun", list(arms), why)
        return None
    heat = _Heat(track, arms)
    history: list[Predictions | None] = []
    benched: list[float] = []
    marks = decide.rungs(track.site.config.train.epochs)
    for rung, epoch in enumerate(marks[:-1]):
        answers = heat.answers_at(epoch)
        while not answers and benched and not heat.ended:
            # All that went on were lost: the best of those that were dropped takes their place.
            heat.admit(benched.pop(0))
            answers = heat.answers_at(epoch)
        if not answers:
            history.append(None)
            continue
        ranked = decide.ranking(answers, field.judge)
        best, kept = ranked[0], ranked[: decide.places(len(ranked))]
        history.append(answers[best])
        score = decide.shown_score(answers[best], field.judge)
        judged = trained and not control and decide.may_stop(epoch, marks[-1])
        now = Standing(name, tuple(history), answers[best], trained)
        verdict = decide.can_win(now, rung, finished, incumbent, field.judge) if judged else None
        if verdict is not None and not verdict.goes_on and not heat.ended:
            heat.stop(ranked, epoch, f"stopped by the race: {verdict.why}")
            note(epoch, "stopped", ranked, verdict.why, score)
            return None
        if dropped := ranked[len(kept) :]:
            better = f"rate {best:g} has {'an undefined score' if score is None else format(score, '.3f')}"
            heat.stop(dropped, epoch, f"stopped by the race: after epoch {epoch} {better}")
            note(epoch, "rates dropped", dropped, better)
            benched = [*dropped, *benched]
        if verdict is not None:
            note(epoch, "goes on", kept, verdict.why, score)
    answers = heat.finish()
    while not answers and benched:
        heat.admit(benched.pop(0))
        answers = heat.finish()
    if not answers:
        note(marks[-1], "lost", list(arms), "no rate went to its end with a score that can be relied on")
        return None
    best = decide.ranking(answers, field.judge)[0]
    note(marks[-1], "ended", list(answers), "went to its end", decide.shown_score(answers[best], field.judge))
    return Standing(name, (*history, answers[best]), answers[best], trained)


def _run_seeds(track: Track, field: Field, decisions: list[dict[str, Any]]) -> None:
    """The other seeds of what would be recommended and of what is best, until both stand on every seed."""
    widened: set[tuple[Way, float]] = set()
    while True:
        candidates, owners = _candidates(track, field, widened)
        judged = field.judge
        found = recommend(candidates, judged.metric, judged.margin, judged.confidence, judged.weights)
        missing: list[TrialSpec] = []
        before = len(widened)
        for index in dict.fromkeys((found.index, found.best)):
            owner = owners[index]
            if owner is None or owner in widened:
                continue
            widened.add(owner)
            way, rate = owner
            others = [spec for (one, _), spec in field.ways[way].items() if one == rate][1:]
            if others:
                what = "recommended by one seed" if index == found.index else "best on validation by one seed"
                decisions.append(decide.decision(way_name(way), 0, "more seeds", [spec.id for spec in others], what, None))
            missing += [spec for spec, status in zip(others, _statuses(track, others), strict=True) if status in (None, "stopped")]
        run_exhaustive(track, missing)
        if len(widened) == before:
            return


def _candidates(
    track: Track, field: Field, widened: Collection[tuple[Way, float]]
) -> tuple[list[Candidate], list[tuple[Way, float] | None]]:
    """All that has ended, in the order of the report, and of which way and rate each is; probes of none. One seed each, but of what
    was widened."""
    rows: list[tuple[Candidate, tuple[Way, float]]] = []
    for way, trials in field.ways.items():
        if way[1].init != "pretrained":
            continue
        first = next(iter(trials))[1]
        asked = [spec for (rate, seed), spec in trials.items() if seed == first or (way, rate) in widened]
        ended: dict[float, list[TrialSpec]] = {}
        for spec, status in zip(asked, _statuses(track, asked), strict=True):
            if status == "done":
                ended.setdefault(spec.learning_rate, []).append(spec)
        answers = {rate: [_final(track, spec)["val"] for spec in specs] for rate, specs in ended.items()}
        rate = best_rate(answers, field.judge.metric)
        if rate is not None:
            plan = way[0]
            costs = [paths.read_json(track.site.study.trial(spec.id).result)["cost"] for spec in ended[rate]]
            cost = float(np.mean([one["flops_per_example"] for one in costs]))
            stages = len(plan.trainable_stages)
            rows.append((Candidate(way_name(way), plan.tap, plan.freeze_depth, stages, cost, answers[rate], []), (way, rate)))
    rows.sort(key=lambda row: (row[0].trainable_stages, row[0].name))
    return [*(row for row, _ in rows), *field.probes], [*(owner for _, owner in rows), *(None for _ in field.probes)]


def way_name(way: Way) -> str:
    """In the words of the report."""
    plan, variant = way
    text = describe(plan.tap, plan.freeze_depth, plan.trainable_stages, plan.leaves)
    return ", ".join(part for part in (text, variant.label) if part)


def _status(track: Track, spec: TrialSpec) -> str | None:
    file = track.site.study.trial(spec.id).result
    return paths.read_json(file)["status"] if file.exists() else None


def _statuses(track: Track, specs: Sequence[TrialSpec]) -> list[str | None]:
    return _as_main_finds(lambda: [_status(track, spec) for spec in specs])


def _as_main_finds(look: Callable[[], list[Any]]) -> list[Any]:
    """What the first process sees on disk, on all: another one may look before or after it has changed a file."""
    return agree(look() if is_main() else None)


def _final(track: Track, spec: TrialSpec) -> dict[str, Predictions]:
    return read_predictions(track.site.study.trial(spec.id).predictions)


def _write(track: Track, field: Field, record: Path, decisions: Sequence[dict[str, Any]], *, over: bool) -> None:
    if not is_main():
        return
    specs = [spec for trials in field.ways.values() for spec in trials.values()]
    epochs = track.site.config.train.epochs
    value = {
        "over": over,
        "trials": [spec.id for spec in specs],
        "judge": dict(field.settings),
        "rungs": list(decide.rungs(epochs)),
        "epochs_run": sum(_epochs_run(track, spec) for spec in specs),
        "epochs_exhaustive": epochs * len(specs),
        "decisions": list(decisions),
    }
    paths.write_json(record, value)


def _epochs_run(track: Track, spec: TrialSpec) -> float:
    file = track.site.study.trial(spec.id).result
    per_epoch = steps_per_epoch(len(track.site.dataset.splits["train"]), track.site.config.train.batch_size)
    return paths.read_json(file)["steps"] / per_epoch if file.exists() else 0.0


class _Heat:
    """The rates of one way, side by side; opened when they first train in this process. ended: rates that ended before there was a
    race, and have no answers at its rungs."""

    def __init__(self, track: Track, arms: Mapping[float, TrialSpec]) -> None:
        self._track, self._arms = track, arms
        self._open: dict[float, Running] = {}
        self._fresh: set[Shape] = set()
        self._per_epoch = steps_per_epoch(len(track.site.dataset.splits["train"]), track.site.config.train.batch_size)
        marks = decide.rungs(track.site.config.train.epochs)[:-1]
        self.ended = _as_main_finds(
            lambda: [
                rate
                for rate, spec in arms.items()
                if _status(track, spec) == "done" and not all(self._rung(rate, epoch).exists() for epoch in marks)
            ]
        )
        self._alive = [rate for rate in arms if rate not in self.ended]

    def answers_at(self, epoch: int) -> dict[float, Predictions]:
        """To val after `epoch`, of every rate that still runs; from disk where they stand there. What diverged before is out."""
        unfinished = self._among(self._alive, None, "stopped")
        missing = _as_main_finds(lambda: [rate for rate in unfinished if not self._rung(rate, epoch).exists()])
        if missing:
            members = self._train(missing, epoch * self._per_epoch)
            sound = [rate for rate, member in members.items() if member.lost_at is None]
            inputs = inputs_of(self._track, self._arms[missing[0]])
            found = judge(self._track.site.bench, [members[rate] for rate in sound], inputs, "val")
            for rate, answers in zip(sound, found, strict=True) if is_main() else ():
                paths.write_by(self._rung(rate, epoch), lambda path, answers=answers: write_predictions(path, {"val": answers}))
            self._close_lost(members)
        self._alive = _as_main_finds(lambda: [rate for rate in self._alive if self._rung(rate, epoch).exists()])
        return {rate: read_predictions(self._rung(rate, epoch))["val"] for rate in self._alive}

    def admit(self, rate: float) -> None:
        """A rate that was dropped runs again."""
        self._alive.append(rate)

    def stop(self, rates: Sequence[float], epoch: int, why: str) -> None:
        """These train no more."""
        unwritten = self._among(rates, None)
        members = self._train(unwritten, epoch * self._per_epoch) if unwritten else {}
        for rate, member in members.items():
            close_trial(self._track, member, read_predictions(self._rung(rate, epoch)), self._fresh, why)
            del self._open[rate]
        self._alive = [rate for rate in self._alive if rate not in rates]

    def finish(self) -> dict[float, Predictions]:
        """All that still run go to their end. Returns the answers to val of those that did, audited and sound."""
        site = self._track.site
        unwritten = self._among(self._alive, None, "stopped")
        if unwritten:
            members = self._train(unwritten, total_steps(site.bench))
            self._close_lost(members)
            sound = {rate: member for rate, member in members.items() if member.lost_at is None}
            inputs = inputs_of(self._track, self._arms[unwritten[0]])
            answers = {split: judge(site.bench, list(sound.values()), inputs, split) for split in ("val", "test")}
            for place, member in enumerate(sound.values()):
                close_trial(self._track, member, {split: found[place] for split, found in answers.items()}, self._fresh)
        done = self._among([*self._alive, *self.ended], "done")
        return {rate: _final(self._track, self._arms[rate])["val"] for rate in done}

    def _close_lost(self, members: Mapping[float, Running]) -> None:
        for rate, member in members.items():
            if member.lost_at is not None:
                close_trial(self._track, member, {}, self._fresh)
                del self._open[rate]

    def _train(self, rates: Sequence[float], upto: int) -> dict[float, Running]:
        for rate in rates:
            member = self._open.get(rate)
            if member is not None and member.step <= upto:
                continue
            spec = self._arms[rate]
            self._fresh |= fresh_shapes(self._track, [spec])
            member = open_trial(self._track, spec, len(rates))
            if member.step > upto:
                # A checkpoint of a run that was no race; what it was at the rung nobody has asked.
                member.checkpoints.close()
                if is_main():
                    shutil.rmtree(member.where.running)
                wait()
                member = open_trial(self._track, spec, len(rates))
            self._open[rate] = member
        members = [self._open[rate] for rate in rates]
        inputs = inputs_of(self._track, self._arms[rates[0]])
        advance(self._track.site.bench, members, inputs, upto, meter(self._track, members))
        return dict(zip(rates, members, strict=True))

    def _among(self, rates: Sequence[float], *statuses: str | None) -> list[float]:
        """Those whose trials stand so; None: without a result."""
        found = _statuses(self._track, [self._arms[rate] for rate in rates])
        return [rate for rate, status in zip(rates, found, strict=True) if status in statuses]

    def _rung(self, rate: float, epoch: int) -> Path:
        return self._track.site.study.trial(self._arms[rate].id).rung(epoch)
