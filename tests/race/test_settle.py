"""Which depths, rates and seeds a race asks for, on answers whose quality is known: nothing is trained here."""

from types import SimpleNamespace
from typing import Any

import pytest

from fteng.analysis.recommend import Candidate
from fteng.freeze.plan import prefix_plan
from fteng.race import run as race
from fteng.race.decide import Standing, decision
from fteng.race.field import Field
from fteng.trials import Variant
from tests.race.test_decide import PROBE, answers, judge

RATES = (3e-3, 1e-3, 3e-4, 1e-4)
SEEDS = (0, 1)
STAGES = ("a", "b", "c", "d", "e")


class Sweep:
    """Depths of five stages, four rates, two seeds; a trial is named DEPTH-RATE-SEED, and those of `scores` are so often right, the
    others all alike and worse than the linear classifier. done: trials that stand already. Every depth runs at the rate 3e-4."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        scores: dict[str, float],
        done: tuple[str, ...] = (),
        depths: tuple[int, ...] = (4, 0),
    ) -> None:
        self.scores, self.done, self.depths = scores, set(done), depths
        self.visited: list[int] = []
        self.record: dict[str, Any] = {}
        monkeypatch.setattr(race, "plan_work", lambda *_: None)
        monkeypatch.setattr(race, "Course", self._course)
        monkeypatch.setattr(race, "statuses", lambda _, specs: ["done" if spec.id in self.done else None for spec in specs])
        monkeypatch.setattr(race, "run_exhaustive", lambda _, specs: self.done.update(spec.id for spec in specs))
        monkeypatch.setattr(race, "final_answers", lambda _, spec: {"val": self._answers(spec.id)})
        monkeypatch.setattr(race, "_epochs_run", lambda *_: 0.0)
        monkeypatch.setattr(race.paths, "write_json", lambda _, value: self.record.update(value))

    def _answers(self, trial: str) -> Any:
        return answers(self.scores.get(trial, 0.6))

    def _course(self, _track: Any, _field: Any, way: Any, finished: Any, decisions: list[Any]) -> Any:
        depth = way[0].freeze_depth
        trial = f"{depth}-0.0003-0"

        def run() -> list[Standing]:
            self.visited.append(depth)
            self.done.add(trial)
            assert all(one[0].freeze_depth in self.visited for one in finished)
            decisions.append(decision(str(depth), 3, "ended", [trial], "", None))
            return [Standing(str(depth), (), self._answers(trial), True, 3e-4)]

        return SimpleNamespace(run=run)

    def run(self) -> list[tuple[str, list[str]]]:
        """(what, trials) of every decision but that a depth ended."""
        ways: Any = {
            (prefix_plan(STAGES, depth), Variant()): {
                (r, s): SimpleNamespace(id=f"{depth}-{r:g}-{s}", learning_rate=r) for s in SEEDS for r in RATES
            }
            for depth in self.depths
        }
        field = Field(ways, Candidate("probe", "e", 5, 0, 1.0, [PROBE.last], []), judge(), {})
        cost = SimpleNamespace(read_result=lambda _: {"cost": {"flops_per_example": 1.0}})
        train = SimpleNamespace(epochs=3)
        ground = SimpleNamespace(config=SimpleNamespace(train=train))
        track: Any = SimpleNamespace(site=SimpleNamespace(study=SimpleNamespace(trial=lambda _: cost), ground=ground))
        record: Any = None
        race.run_race(track, field, record)
        assert self.record["over"]
        return [(row["decision"], row["trials"]) for row in self.record["decisions"] if row["decision"] != "ended"]


def test_the_best_gets_the_rates_beside_its_own_then_its_seeds(monkeypatch):
    sweep = Sweep(monkeypatch, {"4-0.0003-0": 0.95, "4-0.0003-1": 0.95})
    assert sweep.run() == [("more rates", ["4-0.001-0", "4-0.0001-0"][::-1]), ("more seeds", ["4-0.0003-1"])]


def test_a_better_rate_beside_it_is_followed(monkeypatch):
    sweep = Sweep(monkeypatch, {"4-0.0003-0": 0.9, "4-0.001-0": 0.95, "4-0.001-1": 0.95, "4-0.003-0": 0.7})
    assert sweep.run() == [
        ("more rates", ["4-0.0001-0", "4-0.001-0"]),
        ("more rates", ["4-0.003-0"]),
        ("more seeds", ["4-0.001-1"]),
    ]


def test_where_the_linear_classifier_is_best_nothing_more_runs(monkeypatch):
    sweep = Sweep(monkeypatch, {}, depths=(4, 2, 0))
    ((what, trials),) = sweep.run()
    assert what == "not begun"
    assert len(trials) == len(RATES) * len(SEEDS)
    assert sweep.visited == [4, 0]
    assert sweep.done == {"4-0.0003-0", "0-0.0003-0"}


def test_a_depth_waits_until_a_finalist_is_beside_it(monkeypatch):
    best = {f"1-0.0003-{seed}": 0.95 for seed in SEEDS} | {f"0-0.0003-{seed}": 0.9 for seed in SEEDS}
    sweep = Sweep(monkeypatch, best, depths=(4, 3, 2, 1, 0))
    sweep.run()
    # 0 is the best of what runs at first, and 1, beside it, is better; what is beside 1 has run; 3 is beside neither.
    assert sweep.visited == [2, 4, 0, 1]
    assert not any(trial.startswith("3") for trial in sweep.done)


def test_a_shallower_depth_as_good_is_found(monkeypatch):
    best = {f"{depth}-0.0003-{seed}": 0.95 for seed in SEEDS for depth in (0, 1, 2, 3)}
    sweep = Sweep(monkeypatch, best, depths=(4, 3, 2, 1, 0))
    sweep.run()
    assert 3 in sweep.visited


def test_after_a_kill_it_decides_the_same_and_keeps_what_stands(monkeypatch):
    scores = {"4-0.0003-0": 0.9, "4-0.001-0": 0.95, "4-0.001-1": 0.95, "4-0.003-0": 0.7}
    whole = Sweep(monkeypatch, scores).run()
    assert Sweep(monkeypatch, scores, ("4-0.0003-0", "4-0.0001-0", "4-0.001-0")).run() == whole


def test_what_ended_before_there_was_a_race_is_looked_at_in_the_end(monkeypatch):
    """The report recommends among all that ended: the race may not overlook a better one."""
    sweep = Sweep(monkeypatch, {"0-0.003-0": 0.97, "0-0.003-1": 0.97}, ("0-0.003-0",))
    assert sweep.run() == [("more rates", ["0-0.001-0"]), ("more seeds", ["0-0.003-1"])]
