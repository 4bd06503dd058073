"""Which trials can share their batches, and where each of them runs."""

from collections.abc import Sequence
from typing import NamedTuple

from fteng.config import TrainConfig
from fteng.entry import Entry, entry_of
from fteng.trials import TrialSpec


class Population(NamedTuple):
    """What trials that can share their batches have in common."""

    start: str
    entry: Entry
    seed: int


def population_of(spec: TrialSpec, recipe: TrainConfig) -> Population:
    """With which others a trial can advance."""
    return Population(spec.variant.start, entry_of(spec.plan, spec.variant, recipe), spec.seed)


def lanes_of(specs: Sequence[TrialSpec], recipe: TrainConfig, lanes: int) -> dict[str, int]:
    """The lane of each trial: those that share their batches take the lanes in turn."""
    taken: dict[Population, int] = {}
    found = {}
    for spec in specs:
        population = population_of(spec, recipe)
        found[spec.id] = taken.get(population, 0) % lanes
        taken[population] = taken.get(population, 0) + 1
    return found
