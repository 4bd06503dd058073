"""The race itself: from what trains little to what trains much, each at the rate that was best before while it can win; then more
rates and seeds of what would be recommended."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fteng import paths
from fteng.analysis.recommend import Candidate, best_rate, recommend
from fteng.distributed import is_main
from fteng.race import decide
from fteng.race.course import Course
from fteng.race.decide import Standing
from fteng.race.field import Field, Way, way_name
from fteng.race.heat import final_answers, statuses
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
    finished: list[list[Standing]] = []
    for way in field.ways:
        ended = Course(track, field, way, finished, decisions).run()
        if ended and way[1].init == "pretrained":
            finished.append(ended)
        _write(track, field, record, decisions, over=False)
    _settle(track, field, decisions)
    _write(track, field, record, decisions, over=True)


def _settle(track: Track, field: Field, decisions: list[dict[str, Any]]) -> None:
    """Of what would be recommended and of what is best the rates beside its own, until none of them is better, then the other
    seeds; until both stand on every seed.

    Looks at what the race has asked for by then, which is the same after a kill, and in the end at all that stands on disk, as the
    report will: trials that ended before there was a race may have another rate.
    """
    asked = {trial for row in decisions if row["decision"] != "not begun" for trial in row["trials"]}
    settled: set[tuple[Way, float]] = set()
    judged, everything = field.judge, False
    while True:
        candidates, owners = _candidates(track, field, settled, asked)
        found = recommend(candidates, judged.metric, judged.margin, judged.confidence, judged.weights)
        before = len(asked), len(settled)
        for index in dict.fromkeys((found.index, found.best)):
            owner = owners[index]
            if owner is None or owner in settled:
                continue
            way, rate = owner
            what, more = "more rates", [spec for spec in _beside(field.first_seed(way), rate) if spec.id not in asked]
            if not more:
                settled.add(owner)
                what, more = "more seeds", [spec for (one, _), spec in field.ways[way].items() if one == rate][1:]
            if more:
                why = "recommended so far" if index == found.index else "best on validation so far"
                decisions.append(decide.decision(way_name(way), 0, what, [spec.id for spec in more], why, None))
                asked |= {spec.id for spec in more}
                missing = [spec for spec, status in zip(more, statuses(track, more), strict=True) if status in (None, "stopped")]
                run_exhaustive(track, missing)
        if before == (len(asked), len(settled)):
            if everything:
                return
            specs = [spec for trials in field.ways.values() for spec in trials.values()]
            asked |= {spec.id for spec, status in zip(specs, statuses(track, specs), strict=True) if status == "done"}
            everything = True


def _beside(arms: Mapping[float, TrialSpec], rate: float) -> list[TrialSpec]:
    """The trials at the next higher and the next lower rate."""
    rates = sorted(arms)
    place = rates.index(rate)
    return [arms[one] for one in rates[max(place - 1, 0) : place + 2] if one != rate]


def _candidates(
    track: Track, field: Field, settled: Collection[tuple[Way, float]], asked: Collection[str]
) -> tuple[list[Candidate], list[tuple[Way, float] | None]]:
    """What has ended of the trials `asked` for, in the order of the report, and of which way and rate each is; the classifier of
    none. One seed each, but of what was settled."""
    rows: list[tuple[Candidate, tuple[Way, float]]] = []
    for way, trials in field.ways.items():
        if way[1].init != "pretrained":
            continue
        first = next(iter(trials))[1]
        taken = [spec for (rate, seed), spec in trials.items() if seed == first or (way, rate) in settled]
        taken = [spec for spec in taken if spec.id in asked]
        ended: dict[float, list[TrialSpec]] = {}
        for spec, status in zip(taken, statuses(track, taken), strict=True):
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
