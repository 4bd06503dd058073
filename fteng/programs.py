"""The compiled steps of a study: one a shape, which is what trials of equal plans and batch-norm modes share."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fteng.backbones.backbone import Backbone, BatchNormMode
from fteng.backbones.flops import StageFlops
from fteng.config import TrainConfig
from fteng.data.prepare import Dataset
from fteng.freeze import partition
from fteng.freeze.partition import Parameters
from fteng.freeze.plan import FreezePlan
from fteng.train.feed import Feed
from fteng.train.step import Lowered, Program, batch_norm_modes, compile_step, initial_state, lower_step
from fteng.train.trial import Start, class_shares
from fteng.trials import TrialSpec


class Shape(NamedTuple):
    """What trials of one compiled step have in common; modes: of batch norm, one a stage."""

    plan: FreezePlan
    modes: tuple[BatchNormMode, ...]


def shape_of(spec: TrialSpec) -> Shape:
    """The shape of a trial."""
    return Shape(spec.plan, batch_norm_modes(spec.plan, spec.variant))


def compile_all(
    backbone: Backbone,
    dataset: Dataset,
    recipe: TrainConfig,
    feed: Feed,
    flops: StageFlops,
    needed: Mapping[Shape, Start],
    advance: Callable[[int, str], None],
) -> dict[Shape, Program]:
    """One program a shape: traced in turn, compiled side by side. needed: with each shape a start, for the shapes of its arrays;
    advance(1, what): one more is done."""

    def lower(shape: Shape, start: Start) -> Lowered:
        end, rows = len(shape.plan.stages), dataset.splits["train"][: recipe.batch_size]
        images, labels = feed.take(rows), jnp.asarray(dataset.labels[rows].astype(np.int32))
        parameters = Parameters(start.stages[:end], start.heads[shape.plan.tap])
        mask = partition.trainable_mask(shape.plan, parameters)
        # Only shapes are needed here; the state itself belongs to each trial.
        begin = partial(initial_state, mask=mask, modes=shape.modes, recipe=recipe)
        state, frozen = jax.eval_shape(begin, parameters, start.stats[:end])
        arguments = (state, frozen, images, labels, jnp.zeros(end + 1), jax.random.key(0))
        return lower_step(backbone, shape.plan, mask, shape.modes, recipe, class_shares(dataset), flops, arguments)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # The deepest backward passes take longest: first in, so that none is left over at the end.
        waiting = {shape: pool.submit(compile_step, lower(shape, start)) for shape, start in reversed(list(needed.items()))}
        programs = {}
        for shape, future in waiting.items():
            programs[shape] = future.result()
            advance(1, f"boundary {shape.plan.boundary}")
    return programs
