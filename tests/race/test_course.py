"""Which rates of a way run, on answers whose quality is known: nothing is trained here."""

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from fteng.analysis.recommend import Candidate
from fteng.freeze.plan import prefix_plan
from fteng.race import course
from fteng.race.course import Course
from fteng.race.decide import Standing
from fteng.race.field import Field
from fteng.trials import Variant
from tests.race.test_decide import PROBE, answers, judge

RATES = (1e-3, 1e-4, 3e-4)
EPOCHS = 3
Curves = dict[float, tuple[float, float, float]]


class FakeHeat:
    """Answers as `curves` says, by rate, one accuracy a rung; a rate without a curve is lost."""

    curves: ClassVar[Curves] = {}
    begun: ClassVar[list[float]] = []

    def __init__(self, _track: Any, arms: dict[float, Any]) -> None:
        self.rates = list(arms)
        FakeHeat.begun += self.rates

    def answers_at(self, epoch: int) -> dict[float, Any]:
        return {rate: answers(self.curves[rate][epoch - 1]) for rate in self.rates if rate in self.curves}

    def finish(self) -> dict[float, Any]:
        return self.answers_at(EPOCHS)

    def stop(self, rates: list[float], _epoch: int, _why: str) -> None:
        self.rates = [rate for rate in self.rates if rate not in rates]


@pytest.fixture(autouse=True)
def heat(monkeypatch):
    monkeypatch.setattr(course, "Heat", FakeHeat)
    FakeHeat.begun.clear()


def ended(name: str, rate: float, *accuracies: float) -> Standing:
    rungs = tuple(map(answers, accuracies))
    return Standing(name, rungs, rungs[-1], True, rate)


def run(
    curves: Curves,
    *finished: list[Standing],
    trains: bool = True,
    init: str = "pretrained",
    leaves: str = "all",
    depth: int = 1,
) -> tuple[list[float | None], list[tuple[str, int, list[str]]]]:
    """The rates that ended, the best first; and (what, after which epoch, of which rates) was decided."""
    way = (prefix_plan(("first", "second"), 1 if trains else 2), Variant(init=init))
    trials: Any = {(rate, 0): SimpleNamespace(id=f"{rate:g}") for rate in RATES}
    field = Field({way: trials}, Candidate("probe", "", None, 0, 0.0, [PROBE.last], []), judge(), {})
    train = SimpleNamespace(epochs=EPOCHS)
    track: Any = SimpleNamespace(site=SimpleNamespace(ground=SimpleNamespace(config=SimpleNamespace(train=train))))
    decisions: list[dict[str, Any]] = []
    FakeHeat.curves = curves
    before = {(prefix_plan(("first", "second"), depth, leaves), Variant(layer_decay=i + 1)): one for i, one in enumerate(finished)}
    found = Course(track, field, way, before, decisions).run()
    return [standing.rate for standing in found], [(row["decision"], row["epoch"], row["trials"]) for row in decisions]


SHALLOW = [ended("shallow", 3e-4, 0.6, 0.7, 0.85), ended("shallow", 1e-3, 0.5, 0.6, 0.7)]


def test_where_nothing_is_known_of_rates_all_run_to_their_end():
    """Who leads early says little: the highest rate is last at every rung but the end."""
    curves: Curves = {1e-3: (0.3, 0.4, 0.9), 3e-4: (0.5, 0.6, 0.8), 1e-4: (0.7, 0.7, 0.7)}
    assert run(curves) == ([1e-3, 3e-4, 1e-4], [("ended", 3, ["0.001", "0.0001", "0.0003"])])


def test_the_linear_classifier_s_rates_tell_nothing_of_trained_stages():
    classifier = [ended("head", 1e-3, 0.7, 0.8, 0.8)._replace(trained=False)]
    assert run(dict.fromkeys(RATES, (0.5, 0.6, 0.9)), classifier)[0] == [1e-4, 3e-4, 1e-3]


def test_a_deeper_way_begins_at_the_rate_that_was_best_before_it():
    found, decided = run({3e-4: (0.6, 0.7, 0.9)}, SHALLOW)
    assert found == [3e-4]
    assert FakeHeat.begun == [3e-4]
    assert decided[-2:] == [("ended", 3, ["0.0003"]), ("not begun", 0, ["0.001", "0.0001"])]


def test_rates_that_few_images_do_not_tell_apart_go_on_together():
    near = [ended("shallow", 3e-4, 0.6, 0.7, 0.85), ended("shallow", 1e-3, 0.5, 0.6, 0.84), ended("shallow", 1e-4, 0.5, 0.6, 0.7)]
    found, decided = run({3e-4: (0.6, 0.7, 0.86), 1e-3: (0.6, 0.7, 0.9)}, near)
    assert found == [1e-3, 3e-4]
    assert decided[-1] == ("not begun", 0, ["0.0001"])


def test_the_nearest_way_gives_the_rates_also_where_it_trains_more():
    """Being behind it is no sign of a rate that is too high."""
    deep = [ended("deep", 3e-4, 0.6, 0.7, 0.95)]
    found, _ = run({3e-4: (0.6, 0.7, 0.7), 1e-4: (0.6, 0.7, 0.8)}, deep, depth=0)
    assert found == [3e-4]


def test_rates_of_norms_alone_say_nothing_of_kernels():
    found, _ = run(dict.fromkeys(RATES, (0.5, 0.6, 0.9)), SHALLOW, leaves="norm")
    assert sorted(rate or 0 for rate in found) == sorted(RATES)


def test_what_does_worse_than_less_training_gets_a_lower_rate():
    found, decided = run({3e-4: (0.6, 0.7, 0.7), 1e-4: (0.6, 0.7, 0.9)}, SHALLOW)
    assert found == [1e-4, 3e-4]
    assert ("a lower rate", 0, ["0.0001"]) in decided
    assert decided[-1] == ("not begun", 0, ["0.001"])


def test_a_lost_rate_gives_way_to_a_lower_one():
    found, decided = run({1e-4: (0.6, 0.7, 0.9)}, SHALLOW)
    assert found == [1e-4]
    assert ("lost", 3, ["0.0003"]) in decided


def test_nothing_is_left_where_every_rate_is_lost():
    found, decided = run({}, SHALLOW)
    assert found == []
    assert [what for what, *_ in decided] == ["lost", "a lower rate", "lost", "not begun"]


def test_a_lower_rate_that_is_worse_ends_the_descent():
    lower = [ended("shallow", 1e-3, 0.6, 0.7, 0.85)]
    found, _ = run({1e-3: (0.6, 0.7, 0.7), 3e-4: (0.6, 0.7, 0.6), 1e-4: (0.6, 0.7, 0.95)}, lower)
    assert found == [1e-3, 3e-4]


def test_what_cannot_win_is_stopped_at_a_rung_and_has_no_place():
    shallow = [ended("shallow", 3e-4, 0.84, 0.84, 0.85)]
    found, decided = run({3e-4: (0.5, 0.9, 0.9)}, shallow)
    assert found == []
    assert [row[:2] for row in decided] == [("stopped", 1), ("not begun", 0)]


def test_a_control_is_compared_at_every_rate_and_never_stopped():
    shallow = [ended("shallow", 3e-4, 0.84, 0.84, 0.85)]
    found, _ = run(dict.fromkeys(RATES, (0.1, 0.1, 0.2)), shallow, init="random")
    assert sorted(rate or 0 for rate in found) == sorted(RATES)


def test_a_classifier_trained_by_steps_runs_at_every_rate():
    found, _ = run(dict.fromkeys(RATES, (0.1, 0.1, 0.2)), SHALLOW, trains=False)
    assert sorted(rate or 0 for rate in found) == sorted(RATES)


def test_a_way_that_ended_before_a_race_has_no_answers_at_its_rungs():
    """It cannot be judged against; the way goes on."""
    before = [Standing("shallow", (None, None, answers(0.85)), answers(0.85), True, 3e-4)]
    assert run({3e-4: (0.1, 0.1, 0.84)}, before)[0] == [3e-4]


def test_only_the_first_seed_runs():
    way: Any = ("plan", "variant")
    trials: Any = {(1e-3, 5): "a", (1e-4, 5): "b", (1e-3, 6): "c"}
    field = Field({way: trials}, Candidate("probe", "", None, 0, 0.0, [PROBE.last], []), judge(), {})
    assert field.first_seed(way) == {1e-3: "a", 1e-4: "b"}
