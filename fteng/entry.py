"""Where a trial enters the network: what lies before is constant, the same for every trial that enters there. Imports no jax."""

from typing import NamedTuple

from fteng.config import TrainConfig
from fteng.freeze.plan import FreezePlan
from fteng.trials import Variant


class Entry(NamedTuple):
    """The output of the first `stage` stages, or with 0 the preprocessed images; pooled: as features of the tap."""

    stage: int
    pooled: bool = False


def entry_of(plan: FreezePlan, variant: Variant, recipe: TrainConfig) -> Entry:
    """The boundary, and for a linear probe the features of its tap, unless something before it depends on the batch."""
    if recipe.mixup or variant.batch_norm == "batch_all":
        return Entry(0)
    return Entry(plan.boundary, pooled=plan.boundary == len(plan.stages))
