"""Which rates and seeds the finalists of a race get, on answers whose quality is known: nothing is trained here."""

from types import SimpleNamespace
from typing import Any

import pytest

from fteng.analysis.recommend import Candidate
from fteng.freeze.plan import prefix_plan
from fteng.race import run as race
from fteng.race.decide import decision
from fteng.race.field import Field
from fteng.trials import Variant
from tests.race.test_decide import PROBE, answers, judge

RATES = (3e-3, 1e-3, 3e-4, 1e-4)
SEEDS = (0, 1)
Scores = dict[str, float]


class Sweep:
    """Trials named WAY-RATE-SEED; those of `scores` answer so well, the others all alike. done: by id."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, scores: Scores, done: list[str]) -> None:
        self.scores, self.done = scores, set(done)
        self.runs: list[list[str]] = []
        monkeypatch.setattr(race, "statuses", lambda _, specs: ["done" if spec.id in self.done else None for spec in specs])
        monkeypatch.setattr(race, "run_exhaustive", self._train)
        monkeypatch.setattr(race, "final_answers", lambda _, spec: {"val": answers(self.scores.get(spec.id, 0.6))})
        monkeypatch.setattr(race, "way_name", lambda way: f"way{way[0].freeze_depth}")

    def _train(self, _: Any, specs: list[Any]) -> None:
        self.done |= {spec.id for spec in specs}
        self.runs.append([spec.id for spec in specs])

    def settle(self, *asked: str) -> list[tuple[str, str, list[str]]]:
        """(way, what, trials) of every decision; asked: what the race has trained before."""
        ways: Any = {}
        for depth in (1, 0):
            trials = {(r, s): SimpleNamespace(id=f"{depth}-{r:g}-{s}", learning_rate=r) for s in SEEDS for r in RATES}
            ways[prefix_plan(("first", "second"), depth), Variant()] = trials
        field = Field(ways, Candidate("probe", "first", 2, 0, 1.0, [PROBE.last], []), judge(), {})
        cost = SimpleNamespace(read_result=lambda _: {"cost": {"flops_per_example": 1.0}})
        track: Any = SimpleNamespace(site=SimpleNamespace(study=SimpleNamespace(trial=lambda _: cost)))
        decisions = [decision("earlier", 3, "ended", asked, "", None)]
        race._settle(track, field, decisions)
        return [(row["way"], row["decision"], row["trials"]) for row in decisions[1:]]


def test_the_best_way_gets_the_rates_beside_its_own_then_its_seeds(monkeypatch):
    sweep = Sweep(monkeypatch, {"1-0.0003-0": 0.95, "1-0.0003-1": 0.95}, ["1-0.0003-0", "0-0.0003-0"])
    assert sweep.settle("1-0.0003-0", "0-0.0003-0") == [
        ("way1", "more rates", ["1-0.0001-0", "1-0.001-0"]),
        ("way1", "more seeds", ["1-0.0003-1"]),
    ]


def test_a_better_rate_beside_it_is_followed(monkeypatch):
    climbing = {"1-0.0003-0": 0.9, "1-0.001-0": 0.95, "1-0.001-1": 0.95, "1-0.003-0": 0.7}
    sweep = Sweep(monkeypatch, climbing, ["1-0.0003-0"])
    assert [row[1:] for row in sweep.settle("1-0.0003-0")] == [
        ("more rates", ["1-0.0001-0", "1-0.001-0"]),
        ("more rates", ["1-0.003-0"]),
        ("more seeds", ["1-0.001-1"]),
    ]


def test_where_the_linear_classifier_is_best_and_recommended_nothing_more_runs(monkeypatch):
    sweep = Sweep(monkeypatch, {}, ["1-0.0003-0", "0-0.0003-0"])
    assert sweep.settle("1-0.0003-0", "0-0.0003-0") == []
    assert sweep.runs == []


def test_after_a_kill_it_decides_the_same_and_runs_what_is_missing(monkeypatch):
    scores = {"1-0.0003-0": 0.9, "1-0.001-0": 0.95, "1-0.001-1": 0.95, "1-0.003-0": 0.7}
    whole = Sweep(monkeypatch, scores, ["1-0.0003-0"]).settle("1-0.0003-0")
    again = Sweep(monkeypatch, scores, ["1-0.0003-0", "1-0.0001-0", "1-0.001-0"])
    assert again.settle("1-0.0003-0") == whole
    assert again.runs == [[], ["1-0.003-0"], ["1-0.001-1"]]


def test_what_ended_before_there_was_a_race_is_looked_at_in_the_end(monkeypatch):
    """The report recommends among all that ended: the race may not overlook a better one."""
    sweep = Sweep(monkeypatch, {"0-0.003-0": 0.97, "0-0.003-1": 0.97}, ["1-0.0003-0", "0-0.003-0"])
    assert sweep.settle("1-0.0003-0") == [
        ("way0", "more rates", ["0-0.001-0"]),
        ("way0", "more seeds", ["0-0.003-1"]),
    ]
