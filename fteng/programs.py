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
from fteng.entry import Entry, entry_of
from fteng.freeze import partition
from fteng.freeze.partition import Parameters
from fteng.freeze.plan import FreezePlan
from fteng.prefix.walk import Walk, as_float32
from fteng.train.batches import class_shares, length_of
from fteng.train.step import Lowered, Program, batch_norm_modes, compile_step, initial_state, lower_step
from fteng.train.trial import Start
from fteng.trials import TrialSpec


class Shape(NamedTuple):
    """What trials of one compiled step have in common; modes: of batch norm, one a stage."""

    plan: FreezePlan
    modes: tuple[BatchNormMode, ...]
    entry: Entry


def shape_of(spec: TrialSpec, recipe: TrainConfig) -> Shape:
    """The shape of a trial."""
    return Shape(spec.plan, batch_norm_modes(spec.plan, spec.variant), entry_of(spec.plan, spec.variant, recipe))


class Population(NamedTuple):
    """What trials that can share their batches have in common."""

    start: str
    entry: Entry
    seed: int


def population_of(spec: TrialSpec, recipe: TrainConfig) -> Population:
    """With which others a trial can advance."""
    return Population(spec.variant.start, entry_of(spec.plan, spec.variant, recipe), spec.seed)


class Programs:
    """The compiled steps of a study, one a shape and lane, each made when it is first asked for: a race may not need all."""

    def __init__(
        self, backbone: Backbone, dataset: Dataset, recipe: TrainConfig, walk: Walk, flops: StageFlops, start: Start
    ) -> None:
        """start: any; only its shapes matter here. Steps are for the mesh of the walk."""
        self._mesh = walk.mesh
        self._backbone, self._dataset, self._recipe, self._flops = backbone, dataset, recipe, flops
        self._batch = length_of(recipe, len(dataset.splits["train"])).batch
        self._at = walk.shapes(start, dataset.images.shape[1], self._batch)
        self._made: dict[tuple[Shape, int], Program] = {}

    def prepare(self, needed: Mapping[tuple[Shape, int], Start], advance: Callable[[int, str], None]) -> None:
        """Make these at once: traced in turn, compiled side by side. advance(1, what): one more is done."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            # The deepest backward passes take longest: first in, so that none is left over at the end.
            waiting = {key: pool.submit(compile_step, self._lower(*key, start)) for key, start in reversed(list(needed.items()))}
            for key, future in waiting.items():
                self._made[key] = future.result()
                advance(1, f"boundary {key[0].plan.boundary}")

    def get(self, shape: Shape, lane: int, start: Start) -> Program:
        """The step of a shape, for the devices of a lane. start: with the head of its tap."""
        if (shape, lane) not in self._made:
            self._made[shape, lane] = compile_step(self._lower(shape, lane, start))
        return self._made[shape, lane]

    def _lower(self, shape: Shape, lane: int, start: Start) -> Lowered:
        end = len(shape.plan.stages)
        parameters = Parameters(start.stages[:end], start.heads[shape.plan.tap])
        mask = partition.trainable_mask(shape.plan, parameters)
        # Only shapes are needed here; the state itself belongs to each trial.
        begin = partial(initial_state, mask=mask, modes=shape.modes, recipe=self._recipe)
        state, frozen = jax.eval_shape(begin, parameters, start.stats[:end])
        mesh = self._mesh.lane(lane)
        x = mesh.like_batch(jax.eval_shape(as_float32, self._at[shape.entry]))
        labels = mesh.like_batch(jax.ShapeDtypeStruct((self._batch,), np.int32))
        small = mesh.like_whole((jnp.zeros(end + 1), jax.random.key(0)))
        arguments = (mesh.like_whole(state), mesh.like_frozen(frozen), x, labels, *small)
        shares = class_shares(self._dataset)
        return lower_step(
            self._backbone, shape.plan, mask, shape.modes, shape.entry, self._recipe, shares, self._flops, arguments, mesh
        )
