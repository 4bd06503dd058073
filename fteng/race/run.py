"""The race itself: every second depth, the one in the middle at every rate and the others at those that were best near them, while
they can win; then the depths and rates beside what would be recommended, and its other seeds."""

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
    _Race(track, field, record).run()


class _Race:
    """decisions: so far; finished: of pretrained ways, all rates that ended; visited: ways that were given a chance."""

    def __init__(self, track: Track, field: Field, record: Path) -> None:
        self._track, self._field, self._record = track, field, record
        self._decisions: list[dict[str, Any]] = []
        self._finished: dict[Way, list[Standing]] = {}
        self._visited: set[Way] = set()

    def run(self) -> None:
        """See `run_race`."""
        for way in self._field.order():
            self._visit(way)
        self._settle()
        for way in self._field.ways:
            if way not in self._visited:
                self._note(way, "not begun", list(self._field.ways[way].values()), "beside no depth that is best or recommended")
        self._write(over=True)

    def _visit(self, way: Way) -> None:
        self._visited.add(way)
        ended = Course(self._track, self._field, way, self._finished, self._decisions).run()
        if ended and way[1].init == "pretrained":
            self._finished[way] = ended
        self._write(over=False)

    def _settle(self) -> None:
        """Of what would be recommended and of what is best: the depths beside it, then the rates beside its own, then the other
        seeds; until both stand on every seed with nothing beside them that was not tried.

        Looks at what the race has asked for by then, which is the same after a kill, and in the end at all that stands on disk, as
        the report will: trials that ended before there was a race may have another rate.
        """
        track, field, judged = self._track, self._field, self._field.judge
        settled: set[tuple[Way, float]] = set()
        others: set[str] = set()
        everything = False
        while True:
            asked = others | {trial for row in self._decisions if row["decision"] != "not begun" for trial in row["trials"]}
            candidates, owners = _candidates(track, field, settled, asked)
            found = recommend(candidates, judged.metric, judged.margin, judged.confidence, judged.weights)
            finalists = [owner for index in dict.fromkeys((found.index, found.best)) if (owner := owners[index]) is not None]
            beside = [one for way, _ in finalists for one in field.beside(way) if one not in self._visited]
            if beside:
                self._visit(beside[0])
                continue
            before = len(asked), len(settled)
            for way, rate in finalists:
                if (way, rate) in settled:
                    continue
                what, more = "more rates", [spec for spec in _beside(field.first_seed(way), rate) if spec.id not in asked]
                if not more:
                    settled.add((way, rate))
                    what, more = "more seeds", [spec for (one, _), spec in field.ways[way].items() if one == rate][1:]
                if more:
                    first = way_name(way) == candidates[found.index].name
                    self._note(way, what, more, "recommended so far" if first else "best on validation so far")
                    asked |= {spec.id for spec in more}
                    ends = zip(more, statuses(track, more), strict=True)
                    run_exhaustive(track, [spec for spec, status in ends if status in (None, "stopped")])
            if before == (len(asked), len(settled)):
                if everything:
                    return
                others, everything = self._ended(), True

    def _ended(self) -> set[str]:
        """Every trial that has, whoever asked for it."""
        specs = [spec for trials in self._field.ways.values() for spec in trials.values()]
        return {spec.id for spec, status in zip(specs, statuses(self._track, specs), strict=True) if status == "done"}

    def _note(self, way: Way, what: str, specs: Sequence[TrialSpec], why: str) -> None:
        self._decisions.append(decide.decision(way_name(way), 0, what, [spec.id for spec in specs], why, None))

    def _write(self, *, over: bool) -> None:
        if not is_main():
            return
        specs = [spec for trials in self._field.ways.values() for spec in trials.values()]
        epochs = self._track.site.ground.config.train.epochs
        value = {
            "over": over,
            "trials": [spec.id for spec in specs],
            "judge": dict(self._field.settings),
            "rungs": list(decide.rungs(epochs)),
            "epochs_run": sum(_epochs_run(self._track, spec) for spec in specs),
            "epochs_exhaustive": epochs * len(specs),
            "decisions": list(self._decisions),
        }
        paths.write_json(self._record, value)


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


def _epochs_run(track: Track, spec: TrialSpec) -> float:
    where = track.site.study.trial(spec.id)
    return where.read_result("steps")["steps"] / track.site.bench.length.per_epoch if where.result.exists() else 0.0
