"""The rate of every step and stage."""

import numpy as np
import pytest

from fteng.config import TrainConfig
from fteng.freeze.plan import prefix_plan, stage_set_plan
from fteng.train.rates import rate_factors, stage_factors
from fteng.trials import Variant

STAGES = ("one", "two", "three")


def test_cosine_rises_to_one_and_falls_to_nothing():
    factors = rate_factors(TrainConfig(warmup_fraction=0.1), 100)
    assert factors.shape == (100,)
    assert factors[0] == pytest.approx(1 / 11)
    assert factors.argmax() == 10
    assert factors[10] == 1
    assert (np.diff(factors[10:]) < 0).all()
    # The step behind the last would have none: the last still moves.
    assert factors[-1] == pytest.approx((1 + np.cos(np.pi * 89 / 91)) / 2, rel=1e-3)


def test_drops_to_a_tenth_at_each_share():
    factors = rate_factors(TrainConfig(schedule="drops", drops=(0.5, 0.8), warmup_fraction=0.0), 10)
    np.testing.assert_allclose(factors, [1] * 5 + [0.1] * 3 + [0.01] * 2, rtol=1e-6)
    warmed = rate_factors(TrainConfig(schedule="drops", drops=(), warmup_fraction=0.2), 10)
    np.testing.assert_allclose(warmed, [1 / 3, 2 / 3] + [1] * 8, rtol=1e-6)


def test_layer_decay_is_weakest_at_the_head():
    factors = stage_factors(prefix_plan(STAGES, 0), Variant(layer_decay=0.5), 2)
    np.testing.assert_allclose(factors, [[0.125, 0.25, 0.5, 1.0]] * 2)


@pytest.mark.parametrize("plan", [prefix_plan(STAGES, 1), stage_set_plan(STAGES, ["one", "three"])])
def test_gradual_unfreezing_goes_down_stage_by_stage(plan):
    factors = stage_factors(plan, Variant(unfreezing="gradual"), 60)
    first = {name: int(np.argmax(factors[:, index] > 0)) for index, name in enumerate((*STAGES, "head"))}
    assert first["head"] == 0
    assert first["three"] == 10
    assert first["two" if plan.freeze_depth == 1 else "one"] == 20
    assert ((factors == 0) | (factors == 1)).all()
