"""What one step makes of its number, its key and the modes of batch norm; on activations that mean nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fteng.backbones.backbone import BatchNormMode
from fteng.config import TrainConfig
from fteng.entry import Entry
from fteng.freeze.plan import prefix_plan
from fteng.train.shape import Shape
from fteng.train.start import untrained
from fteng.train.step import initial_state, make_step, whole

KEEP, BATCH = BatchNormMode.KEEP, BatchNormMode.BATCH


@pytest.mark.slow
def test_each_step_has_random_numbers_of_its_own(lab):
    """A linear probe with mixup, whose pairs and shares are drawn anew at each step, and the same ones after a stop."""
    recipe = dataclasses.replace(TrainConfig(), mixup=1.0, augment=())
    stages = lab.backbone.stages
    shape = Shape(prefix_plan(stages, len(stages)), (KEEP,) * len(stages), Entry(0, pooled=False))
    network = untrained(lab.start, shape)
    state, frozen = initial_state(network, recipe)
    step = jax.jit(make_step(lab.backbone, shape, network.mask, recipe, np.full(10, 0.1)))
    rng = np.random.default_rng(0)
    x, labels = jnp.asarray(rng.normal(size=(8, 32, 32, 3)), jnp.float32), jnp.asarray(rng.integers(0, 10, 8), jnp.int32)
    rates = jnp.full(len(stages) + 1, 1e-2, jnp.float32)

    def after(number: int, seed: int) -> np.ndarray:
        at = state._replace(step=jnp.int32(number))
        return np.asarray(step(at, frozen, x, labels, rates, jax.random.key(seed)).trainable.head["kernel"])

    np.testing.assert_array_equal(after(3, 0), after(3, 0))
    assert not np.array_equal(after(3, 0), after(4, 0))
    assert not np.array_equal(after(3, 0), after(3, 1))


def test_statistics_that_follow_are_state_and_the_others_are_not(lab):
    stages = lab.backbone.stages
    plan = prefix_plan(stages, len(stages) - 1)
    modes = (*(KEEP,) * (len(stages) - 1), BATCH)
    network = untrained(lab.start, Shape(plan, modes, Entry(plan.boundary)))
    state, frozen = initial_state(network, TrainConfig())
    assert [tree is None for tree in state.stats] == [mode is KEEP for mode in modes]
    assert [tree is None for tree in frozen.stats] == [mode is BATCH for mode in modes]
    # Copies, since a step donates what it has.
    (moving, *_), (before, *_) = jax.tree.leaves(state.stats[-1]), jax.tree.leaves(lab.start.stats[-1])
    assert moving is not before
    after, stats = whole(state, frozen)
    for one, other in zip(jax.tree.leaves((after, stats)), jax.tree.leaves((network.parameters, lab.start.stats)), strict=True):
        np.testing.assert_array_equal(one, other)
