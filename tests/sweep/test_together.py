"""Which trials advance together: as many of a population as memory holds."""

from types import SimpleNamespace
from typing import Any

import pytest

from fteng.config import TrainConfig
from fteng.freeze.plan import prefix_plan
from fteng.sweep import together
from fteng.trials import TrialSpec, Variant

STAGES = ("a", "b", "c")


def trial(depth: int, rate: float, seed: int = 0) -> TrialSpec:
    return TrialSpec(prefix_plan(STAGES, depth), Variant(), rate, seed, {})


def split(
    monkeypatch: pytest.MonkeyPatch, specs: list[TrialSpec], sizes: list[int], *, free: int, lanes: list[int], shared: bool
) -> list[list[int]]:
    """Places in `specs` of those that go together, of states of `sizes` bytes; shared: all lanes have the host's memory."""
    size = {spec.id: size for spec, size in zip(specs, sizes, strict=True)}
    lane = {spec.id: lane for spec, lane in zip(specs, lanes, strict=True)}
    monkeypatch.setattr(together, "free_on_device", lambda: None if shared else free)
    monkeypatch.setattr(together, "agree", lambda value: value)
    monkeypatch.setattr(together, "available_memory", lambda: free)
    track: Any = SimpleNamespace(
        site=SimpleNamespace(ground=SimpleNamespace(config=SimpleNamespace(train=TrainConfig()))),
        program=lambda spec: SimpleNamespace(state_bytes=size[spec.id]),
        lanes=lane,
    )
    parts = together.populations(track, specs)
    for part in parts:
        fullest = max(sum(size[spec.id] for spec in part if shared or lane[spec.id] == one) for one in set(lanes))
        assert together.state_bytes(track, part) == fullest
    return [[specs.index(spec) for spec in part] for part in parts]


def test_trials_of_one_start_and_seed_go_together_and_a_quarter_of_the_memory_holds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [trial(1, rate) for rate in (0.1, 0.2, 0.3, 0.4, 0.5)]
    host: Any = {"lanes": [0, 1, 0, 1, 0], "shared": True}
    assert split(monkeypatch, specs, [10] * 5, free=400, **host) == [[0, 1, 2, 3, 4]]
    assert split(monkeypatch, specs, [10] * 5, free=80, **host) == [[0, 1], [2, 3], [4]]
    # What is too large for any room goes alone; nothing is lost.
    assert split(monkeypatch, specs, [10, 90, 10, 10, 10], free=80, **host) == [[0], [1], [2, 3], [4]]


def test_other_seeds_see_other_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [trial(1, 0.1), trial(1, 0.1, seed=1), trial(1, 0.2)]
    assert split(monkeypatch, specs, [10] * 3, free=400, lanes=[0] * 3, shared=True) == [[0, 2], [1]]


@pytest.mark.parametrize(
    ("lanes", "parts"), [([0, 1, 0, 1, 0], [[0, 1, 2, 3], [4]]), ([0, 0, 0, 1, 1], [[0, 1], [2, 3, 4]])], ids=str
)
def test_on_an_accelerator_each_lane_has_memory_of_its_own(
    monkeypatch: pytest.MonkeyPatch, lanes: list[int], parts: list[list[int]]
) -> None:
    specs = [trial(1, rate) for rate in (0.1, 0.2, 0.3, 0.4, 0.5)]
    assert split(monkeypatch, specs, [10] * 5, free=80, lanes=lanes, shared=False) == parts
