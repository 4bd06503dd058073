"""What trials must have in common to share a compiled step."""

import pytest

from fteng.backbones.backbone import BatchNormMode
from fteng.config import TrainConfig
from fteng.entry import Entry
from fteng.freeze.plan import prefix_plan, stage_set_plan
from fteng.train.shape import shape_of
from fteng.trials import Variant

STAGES = ("a", "b", "c")
KEEP, BATCH = BatchNormMode.KEEP, BatchNormMode.BATCH


@pytest.mark.parametrize(
    ("batch_norm", "modes"),
    [
        ("keep", (KEEP, KEEP, KEEP)),
        ("adapt", (KEEP, KEEP, KEEP)),
        ("batch", (KEEP, BATCH, KEEP)),
        ("batch_all", (BATCH, BATCH, BATCH)),
    ],
)
def test_batch_norm_follows_the_batch_where_the_variant_says_so(batch_norm: str, modes: tuple[BatchNormMode, ...]) -> None:
    assert shape_of(stage_set_plan(STAGES, ["b"]), Variant(batch_norm=batch_norm), TrainConfig()).modes == modes


def test_rates_schedules_and_starts_are_no_other_step() -> None:
    plan = prefix_plan(STAGES, 1)
    usual = shape_of(plan, Variant(), TrainConfig())
    assert usual.entry == Entry(1)
    for variant in (Variant(init="random"), Variant(layer_decay=0.5), Variant(unfreezing="gradual"), Variant(batch_norm="adapt")):
        assert shape_of(plan, variant, TrainConfig()) == usual
    assert shape_of(prefix_plan(STAGES, 2), Variant(), TrainConfig()) != usual
    assert shape_of(plan, Variant(), TrainConfig(mixup=0.2)) != usual
