"""What trials that share one compiled step have in common."""

from typing import NamedTuple

from fteng.backbones.backbone import BatchNormMode
from fteng.config import TrainConfig
from fteng.entry import Entry, entry_of
from fteng.freeze.plan import FreezePlan
from fteng.trials import Variant


class Shape(NamedTuple):
    """Of a step. modes: of batch norm, one a stage; entry: where its images come into the network."""

    plan: FreezePlan
    modes: tuple[BatchNormMode, ...]
    entry: Entry


def shape_of(plan: FreezePlan, variant: Variant, recipe: TrainConfig) -> Shape:
    """Of the step that trains so."""
    return Shape(plan, _batch_norm_modes(plan, variant), entry_of(plan, variant, recipe))


def _batch_norm_modes(plan: FreezePlan, variant: Variant) -> tuple[BatchNormMode, ...]:
    """What batch norm does in each stage while training; `adapt` has done its work before."""
    follows = {"keep": (False, False), "adapt": (False, False), "batch": (False, True), "batch_all": (True, True)}
    frozen, trained = follows[variant.batch_norm]
    return tuple(BatchNormMode.BATCH if (trained if trains else frozen) else BatchNormMode.KEEP for trains in plan.trains)
