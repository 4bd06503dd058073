"""The race itself: from what trains little to what trains much, rates by successive halving, depths while they can win, then seeds
of what is left."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fteng import paths
from fteng.analysis.recommend import Candidate, best_rate, recommend
from fteng.distributed import is_main
from fteng.race import decide
from fteng.race.decide import Standing
from fteng.race.field import Field, Way, way_name
from fteng.race.heat import Heat, final_answers, statuses
from fteng.results import Predictions
from fteng.sweep.cost import plan_work
from fteng.sweep.run import run_exhaustive
from fteng.sweep.track import Track
from fteng.trials import TrialSpec


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


def _run_way(
    track: Track, field: Field, way: Way, finished: Sequence[Standing], decisions: list[dict[str, Any]]
) -> Standing | None:
    """One plan and variant with all its rates, at the first seed. Returns how it ended, None where it was stopped or lost."""
    plan, variant = way
    name, trained, control = way_name(way), any(plan.trains), variant.init != "pretrained"
    seed = next(iter(field.ways[way]))[1]
    arms = {rate: spec for (rate, one), spec in field.ways[way].items() if one == seed}
    ended = [field.standing, *finished]
    incumbent = decide.best_standing(ended, field.judge)

    def note(epoch: int, what: str, rates: Sequence[float], why: str, score: float | None = None) -> None:
        decisions.append(decide.decision(name, epoch, what, [arms[rate].id for rate in rates], why, score))

    if trained and not control and (why := decide.nothing_to_win(incumbent, ended, field.judge)):
        note(0, "not begun", list(arms), why)
        return None
    heat = Heat(track, arms)
    history: list[Predictions | None] = []
    benched: list[float] = []
    marks = decide.rungs(track.site.ground.config.train.epochs)
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
            missing += [spec for spec, status in zip(others, statuses(track, others), strict=True) if status in (None, "stopped")]
        run_exhaustive(track, missing)
        if len(widened) == before:
            return


def _candidates(
    track: Track, field: Field, widened: Collection[tuple[Way, float]]
) -> tuple[list[Candidate], list[tuple[Way, float] | None]]:
    """All that has ended, in the order of the report, and of which way and rate each is; the classifier of none. One seed each,
    but of what was widened."""
    rows: list[tuple[Candidate, tuple[Way, float]]] = []
    for way, trials in field.ways.items():
        if way[1].init != "pretrained":
            continue
        first = next(iter(trials))[1]
        asked = [spec for (rate, seed), spec in trials.items() if seed == first or (way, rate) in widened]
        ended: dict[float, list[TrialSpec]] = {}
        for spec, status in zip(asked, statuses(track, asked), strict=True):
            if status == "done":
                ended.setdefault(spec.learning_rate, []).append(spec)
        answers = {rate: [final_answers(track, spec)["val"] for spec in specs] for rate, specs in ended.items()}
        rate = best_rate(answers, field.judge.metric)
        if rate is not None:
            plan = way[0]
            costs = [track.site.study.trial(spec.id).read_result("cost")["cost"] for spec in ended[rate]]
            cost = float(np.mean([one["flops_per_example"] for one in costs]))
            stages = len(plan.trainable_stages)
            rows.append((Candidate(way_name(way), plan.tap, plan.freeze_depth, stages, cost, answers[rate], []), (way, rate)))
    rows.sort(key=lambda row: (row[0].trainable_stages, row[0].name))
    return [*(row for row, _ in rows), field.probe], [*(owner for _, owner in rows), None]


def _write(track: Track, field: Field, record: Path, decisions: Sequence[dict[str, Any]], *, over: bool) -> None:
    if not is_main():
        return
    specs = [spec for trials in field.ways.values() for spec in trials.values()]
    epochs = track.site.ground.config.train.epochs
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
    where = track.site.study.trial(spec.id)
    return where.read_result("steps")["steps"] / track.site.bench.length.per_epoch if where.result.exists() else 0.0
