"""The compiled steps of a study: one a shape, which is what trials of equal plans and batch-norm modes share."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fteng.backbones.backbone import Backbone
from fteng.backbones.flops import StageFlops
from fteng.config import TrainConfig
from fteng.data.prepare import Dataset
from fteng.freeze.partition import Parameters
from fteng.prefix.walk import Walk, as_float32
from fteng.train.batches import class_shares, length_of
from fteng.train.shape import Shape
from fteng.train.start import Start, untrained
from fteng.train.step import Frozen, Lowered, Program, TrainState, compile_step, initial_state, lower_step


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
        network = untrained(start, shape)

        def begin(parameters: Parameters, stats: tuple[Any, ...]) -> tuple[TrainState, Frozen]:
            return initial_state(network._replace(parameters=parameters, stats=stats), self._recipe)

        # Only shapes are needed here; the state itself belongs to each trial.
        state, frozen = jax.eval_shape(begin, network.parameters, network.stats)
        mesh = self._mesh.lane(lane)
        x = mesh.like_batch(jax.eval_shape(as_float32, self._at[shape.entry]))
        labels = mesh.like_batch(jax.ShapeDtypeStruct((self._batch,), np.int32))
        small = mesh.like_whole((jnp.zeros(len(shape.plan.stages) + 1), jax.random.key(0)))
        arguments = (mesh.like_whole(state), mesh.like_frozen(frozen), x, labels, *small)
        shares = class_shares(self._dataset)
        return lower_step(self._backbone, shape, network.mask, self._recipe, shares, self._flops, arguments, mesh)
