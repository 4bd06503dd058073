"""Which depths of a race wait until a finalist is beside them."""

from typing import Any

import pytest

from fteng.analysis.recommend import Candidate
from fteng.freeze.plan import prefix_plan, stage_set_plan
from fteng.race.field import Field
from fteng.trials import Variant
from tests.race.test_decide import PROBE, judge

STAGES = tuple("abcdefgh")


def field(*ways: Any) -> Field:
    trials: Any = {(1e-3, 0): "a"}
    found: Any = dict.fromkeys(ways, trials)
    return Field(found, Candidate("probe", "", None, 0, 0.0, [PROBE.last], []), judge(), {})


def depth(frozen: int, leaves: str = "all", **variant: Any) -> Any:
    return prefix_plan(STAGES, frozen, leaves), Variant(**variant)


@pytest.mark.parametrize(
    ("depths", "waits"),
    [
        ([4], []),
        ([4, 0], []),
        ([6, 3, 0], [3]),
        ([6, 4, 2, 0], [2]),
        ([7, 6, 4, 2, 0], [6, 2]),
        ([7, 6, 5, 4, 3, 2, 0], [6, 4, 2]),
    ],
)
def test_every_second_depth_waits_but_neither_the_shallowest_nor_the_deepest(depths, waits):
    ways = [depth(8), *map(depth, depths)]
    assert field(*ways).later() == set(map(depth, waits))


@pytest.mark.parametrize(
    ("depths", "first"),
    [
        ([4], [4]),
        ([4, 0], [4, 0]),
        ([6, 3, 0], [6, 0]),
        ([7, 6, 4, 2, 0], [4, 7, 0]),
        ([7, 6, 5, 4, 3, 2, 1, 0], [4, 7, 6, 2, 0]),
    ],
)
def test_the_middle_of_what_runs_first_comes_first(depths, first):
    found = field(depth(8), *map(depth, depths)).order()
    assert found == [depth(first[0]), depth(8), *map(depth, first[1:])]


def test_ways_of_another_kind_are_counted_apart_and_controls_and_sets_never_wait():
    of_sets = [(stage_set_plan(STAGES, [one]), Variant()) for one in "abc"]
    controls = [depth(one, init="random") for one in (6, 3, 0)]
    norms = [depth(one, leaves="norm") for one in (6, 3, 0)]
    decayed = [depth(one, layer_decay=0.8) for one in (3, 0)]
    found = field(*of_sets, *controls, *norms, *decayed)
    assert found.later() == {norms[1]}
    assert found.beside(norms[1]) == [norms[0], norms[2]]
    assert found.beside(decayed[0]) == [decayed[1]]
    assert found.beside(controls[0]) == []


def test_the_order_of_the_ways_does_not_matter_to_what_is_beside():
    ways = [depth(0), depth(6), depth(3)]
    assert field(*ways).beside(depth(6)) == [depth(3)]
    assert field(*ways).beside(depth(3)) == [depth(6), depth(0)]
