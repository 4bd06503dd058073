"""The race itself: from what trains little to what trains much, rates by successive halving, depths while they can win, then seeds
of what is left."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fteng import paths
from fteng.analysis.recommend import Candidate, best_rate, recommend
from fteng.freeze.plan import FreezePlan
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
    """Who races. ways: from the cheapest on, each with its trials by rate and seed; probes: what stands already; judge: how."""

    ways: Mapping[Way, Mapping[tuple[float, int], TrialSpec]]
    probes: Sequence[Standing]
    judge: Judge


def make_field(specs: Sequence[TrialSpec], probes: Mapping[str, Predictions], judge: Judge) -> Field:
    """probes: the answers to val of every tap's probe."""
    ways: dict[Way, dict[tuple[float, int], TrialSpec]] = {}
    for spec in specs:
        ways.setdefault((spec.plan, spec.variant), {})[spec.learning_rate, spec.seed] = spec
    standings = [Standing(f"linear classifier on {tap}", (answers,), False) for tap, answers in probes.items()]
    return Field(ways, standings, judge)


def run_race(track: Track, field: Field, record: Path) -> None:
    """Every decision in the order in which it falls, and with it the trials it needs. record: race.json, written after each way.

    Decisions are made from what stands on disk, so a race that was stopped, or got more rates or seeds, comes to the same ones
    and trains only what is missing.
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


def is_over(record: Path, specs: Sequence[TrialSpec]) -> bool:
    """Whether the race over these trials has ended."""
    if not record.exists():
        return False
    value = paths.read_json(record)
    return value["over"] and value["trials"] == [spec.id for spec in specs]


def _run_way(
    track: Track, field: Field, way: Way, finished: Sequence[Standing], decisions: list[dict[str, Any]]
) -> Standing | None:
    """One plan and variant with all its rates, at the first seed. Returns how it ended, None where it was stopped or lost."""
    plan, variant = way
    name, trained, control = way_name(way), any(plan.trains), variant.init != "pretrained"
    seed = next(iter(field.ways[way]))[1]
    arms = {rate: spec for (rate, one), spec in field.ways[way].items() if one == seed}
    standing = [*field.probes, *finished]
    incumbent = decide.best_standing(standing, field.judge)
    if trained and not control and (why := decide.nothing_to_win(incumbent, field.judge)):
        decisions.append(decide.decision(name, 0, "not begun", [spec.id for spec in arms.values()], why, None))
        return None
    heat = _Heat(track, arms)
    history: list[Predictions] = []
    marks = decide.rungs(track.site.config.train.epochs)
    for rung, epoch in enumerate(marks):
        answers = heat.answers_at(epoch)
        if not answers:
            decisions.append(decide.decision(name, epoch, "lost", [spec.id for spec in arms.values()], "every rate diverged", None))
            return None
        kept = decide.survivors(answers, field.judge) if epoch != marks[-1] else list(answers)
        best = decide.survivors(answers, field.judge)[0]
        history.append(answers[best])
        if epoch == marks[-1]:
            heat.finish(kept)
            score = decide.shown_score(answers[best], field.judge)
            decisions.append(decide.decision(name, epoch, "ended", [arms[rate].id for rate in kept], "went to its end", score))
            break
        dropped = [rate for rate in answers if rate not in kept]
        now = Standing(name, tuple(history), trained)
        judged = trained and not control and decide.may_stop(epoch, marks[-1])
        verdict = decide.can_win(now, rung, finished, incumbent, field.judge) if judged else None
        if verdict is not None and not verdict.goes_on:
            heat.stop(list(answers), epoch, f"stopped by the race: {verdict.why}")
            score = decide.shown_score(answers[best], field.judge)
            decisions.append(decide.decision(name, epoch, "stopped", [arms[rate].id for rate in answers], verdict.why, score))
            return None
        if dropped:
            better = f"rate {best:g} has {decide.shown_score(answers[best], field.judge)}"
            heat.stop(dropped, epoch, f"stopped by the race: after epoch {epoch} {better}")
            decisions.append(decide.decision(name, epoch, "rates dropped", [arms[rate].id for rate in dropped], better, None))
        if verdict is not None:
            ids = [arms[rate].id for rate in kept]
            decisions.append(
                decide.decision(name, epoch, "goes on", ids, verdict.why, decide.shown_score(answers[best], field.judge))
            )
    return Standing(name, tuple(history), trained)


def _run_seeds(track: Track, field: Field, decisions: list[dict[str, Any]]) -> None:
    """The other seeds of what would be recommended and of what is best, until both stand on every seed."""
    while True:
        candidates, owners = _candidates(track, field)
        if not candidates:
            return
        judged = field.judge
        found = recommend(candidates, judged.metric, judged.margin, judged.confidence, judged.weights)
        missing: list[TrialSpec] = []
        for index in dict.fromkeys((found.index, found.best)):
            if (owner := owners[index]) is None:
                continue
            way, rate = owner
            lacking = [spec for (one, _), spec in field.ways[way].items() if one == rate and not _ended(track, spec)]
            if lacking:
                what = "recommended" if index == found.index else "best on validation"
                decisions.append(decide.decision(way_name(way), 0, "more seeds", [spec.id for spec in lacking], what, None))
                missing += lacking
        if not missing:
            return
        run_exhaustive(track, missing)


def _candidates(track: Track, field: Field) -> tuple[list[Candidate], list[tuple[Way, float] | None]]:
    """All that has ended, and of which way and rate each is; probes of none."""
    candidates: list[Candidate] = []
    owners: list[tuple[Way, float] | None] = []
    for way, trials in field.ways.items():
        if way[1].init != "pretrained":
            continue
        rates: dict[float, list[Predictions]] = {}
        for (rate, _), spec in trials.items():
            if _ended(track, spec):
                rates.setdefault(rate, []).append(read_predictions(track.site.study.trial(spec.id).predictions)["val"])
        rate = best_rate(rates, field.judge.metric)
        if rate is not None:
            plan = way[0]
            one = next(spec for spec in trials.values() if _ended(track, spec))
            cost = paths.read_json(track.site.study.trial(one.id).result)["cost"]["flops_per_example"]
            candidates.append(
                Candidate(way_name(way), plan.tap, plan.freeze_depth, len(plan.trainable_stages), cost, rates[rate], [])
            )
            owners.append((way, rate))
    for probe in field.probes:
        candidates.append(Candidate(probe.name, "", None, 0, 0.0, list(probe.rungs), []))
        owners.append(None)
    return candidates, owners


def way_name(way: Way) -> str:
    """In a few words, for the record."""
    plan, variant = way
    depth = f"freeze depth {plan.boundary}" if plan.freeze_depth is not None else f"only {'+'.join(plan.trainable_stages)}"
    leaves = "" if plan.leaves == "all" else f", {plan.leaves} only"
    label = f", {variant.label}" if variant.label else ""
    return f"{depth}, tap {plan.tap}{leaves}{label}"


def _ended(track: Track, spec: TrialSpec) -> bool:
    file = track.site.study.trial(spec.id).result
    return file.exists() and paths.read_json(file)["status"] == "done"


def _write(track: Track, field: Field, record: Path, decisions: Sequence[dict[str, Any]], *, over: bool) -> None:
    specs = [spec for trials in field.ways.values() for spec in trials.values()]
    epochs = track.site.config.train.epochs
    value = {
        "over": over,
        "trials": [spec.id for spec in specs],
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
    """The rates of one way, side by side; opened when they first train in this process."""

    def __init__(self, track: Track, arms: Mapping[float, TrialSpec]) -> None:
        self._track, self._arms = track, arms
        self._open: dict[float, Running] = {}
        self._fresh = fresh_shapes(track, list(arms.values()))
        self._per_epoch = steps_per_epoch(len(track.site.dataset.splits["train"]), track.site.config.train.batch_size)
        self._alive = [rate for rate, spec in arms.items() if self._status(spec) != "diverged"]

    def answers_at(self, epoch: int) -> dict[float, Predictions]:
        """To val after `epoch`, of every rate that still runs; from disk where they stand there."""
        missing = [rate for rate in self._alive if not self._rung(rate, epoch).exists()]
        if missing:
            members = self._train(missing, epoch * self._per_epoch)
            sound = [rate for rate, member in members.items() if member.lost_at is None]
            inputs = inputs_of(self._track, self._arms[missing[0]])
            found = judge(self._track.site.bench, [members[rate] for rate in sound], inputs, "val")
            for rate, answers in zip(sound, found, strict=True):
                self._keep(self._rung(rate, epoch), answers)
            for rate, member in members.items():
                if member.lost_at is not None:
                    close_trial(self._track, member, {}, self._fresh)
                    self._alive.remove(rate)
        return {rate: read_predictions(self._rung(rate, epoch))["val"] for rate in self._alive}

    def stop(self, rates: Sequence[float], epoch: int, why: str) -> None:
        """These train no more."""
        unwritten = [rate for rate in rates if self._status(self._arms[rate]) is None]
        members = self._train(unwritten, epoch * self._per_epoch) if unwritten else {}
        for rate, member in members.items():
            answers = read_predictions(self._rung(rate, epoch))
            close_trial(self._track, member, answers, self._fresh, why)
        self._alive = [rate for rate in self._alive if rate not in rates]

    def finish(self, rates: Sequence[float]) -> None:
        """These have ended."""
        unwritten = [rate for rate in rates if self._status(self._arms[rate]) != "done"]
        if not unwritten:
            return
        site = self._track.site
        members = self._train(unwritten, total_steps(site.bench))
        inputs = inputs_of(self._track, self._arms[unwritten[0]])
        answers = {split: judge(site.bench, list(members.values()), inputs, split) for split in ("val", "test")}
        for place, member in enumerate(members.values()):
            close_trial(self._track, member, {split: found[place] for split, found in answers.items()}, self._fresh)

    def _train(self, rates: Sequence[float], upto: int) -> dict[float, Running]:
        for rate in rates:
            if rate not in self._open:
                self._open[rate] = open_trial(self._track, self._arms[rate], len(rates))
        members = [self._open[rate] for rate in rates]
        inputs = inputs_of(self._track, self._arms[rates[0]])
        advance(self._track.site.bench, members, inputs, upto, meter(self._track, members))
        return dict(zip(rates, members, strict=True))

    def _rung(self, rate: float, epoch: int) -> Path:
        return self._track.site.study.trial(self._arms[rate].id).rung(epoch)

    def _keep(self, file: Path, answers: Predictions) -> None:
        paths.write_by(file, lambda path: write_predictions(path, {"val": answers}))

    def _status(self, spec: TrialSpec) -> str | None:
        file = self._track.site.study.trial(spec.id).result
        return paths.read_json(file)["status"] if file.exists() else None
