"""A backbone: an ordered list of named stages, run as pure functions over one parameter tree and one statistics tree a stage.

The first level of both trees is the list of stages, so freezing, caching and truncating are slices of it.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, UInt8

Tree = Any


class BatchNormMode(enum.Enum):
    """What a batch-norm layer normalises with, and what it hands back as its statistics."""

    KEEP = "keep"
    """Running statistics; handed back unchanged."""
    BATCH = "batch"
    """Mean and variance of the batch; running statistics move towards them."""
    OBSERVE = "observe"
    """Running statistics; handed back are the batch's own mean and biased variance of the layer's input."""


class Preprocess(NamedTuple):
    """How the network wants its images. mean, std: one number a channel on the 0..255 scale, in the order R, G, B."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: str
    interpolation: str
    image_size: int

    def apply(self, images: UInt8[Array, "n h w 3"]) -> Float[Array, "n h w 3"]:
        """RGB bytes -> floats in the network's channel order."""
        x = (images.astype(jnp.float32) - jnp.asarray(self.mean)) / jnp.asarray(self.std)
        return x[..., ::-1] if self.channel_order == "BGR" else x


@dataclass(frozen=True)
class Backbone:
    """A network without its numbers; those are arguments: params and stats, one pure dict a stage.

    stages: names in order. groups: coarse names for consecutive stages. channels: of each stage's output. graphdefs: one
    a stage.
    """

    name: str
    stages: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    channels: tuple[int, ...]
    preprocess: Preprocess
    graphdefs: tuple["nnx.GraphDef[Any]", ...]

    def apply(
        self,
        params: Sequence[Tree],
        stats: Sequence[Tree],
        x: Float[Array, "n h w c"],
        *,
        start: int = 0,
        stop: int | None = None,
        modes: Sequence[BatchNormMode] | BatchNormMode = BatchNormMode.KEEP,
        momentum: float | Float[Array, ""] = 0.9,
    ) -> tuple[Float[Array, "n rows columns channels"], tuple[Tree, ...]]:
        """Runs stages[start:stop] on `x`: preprocessed images if start is 0, else the output of stage start - 1.

        modes: one for all, or one a stage of the whole list. momentum: share of the old statistics that BATCH keeps.
        Returns the output, of channels[stop - 1] channels, and all statistics, those of the stages that ran replaced.
        """
        _, y, new_stats = self._run(params, stats, x, start, stop, modes, momentum)
        return y, new_stats

    def taps(
        self,
        params: Sequence[Tree],
        stats: Sequence[Tree],
        x: Float[Array, "n h w c"],
        *,
        start: int = 0,
        stop: int | None = None,
        modes: Sequence[BatchNormMode] | BatchNormMode = BatchNormMode.KEEP,
        momentum: float | Float[Array, ""] = 0.9,
    ) -> tuple[list[Float[Array, "n _"]], Float[Array, "n rows columns channels"], tuple[Tree, ...]]:
        """`apply`, and before its results the pooled output, of channels[i] channels, of every stage that ran."""
        return self._run(params, stats, x, start, stop, modes, momentum)

    def _run(
        self,
        params: Sequence[Tree],
        stats: Sequence[Tree],
        x: Float[Array, "n h w c"],
        start: int,
        stop: int | None,
        modes: Sequence[BatchNormMode] | BatchNormMode,
        momentum: float | Float[Array, ""],
    ) -> tuple[list[Float[Array, "n _"]], Float[Array, "n rows columns channels"], tuple[Tree, ...]]:
        count = len(self.stages)
        stop = count if stop is None else stop
        if not 0 <= start <= stop <= count:
            raise ValueError(f"stages [{start}:{stop}] of {self.name}: allowed 0 <= start <= stop <= {count}")
        modes = (modes,) * count if isinstance(modes, BatchNormMode) else tuple(modes)
        if min(len(modes), len(params), len(stats)) < stop:
            raise ValueError(
                f"{self.name}: one a stage up to {stop}; got {len(modes)} modes, {len(params)} params, {len(stats)} stats"
            )
        pooled: list[Float[Array, "n _"]] = []
        new_stats = list(stats)
        for index in range(start, stop):
            stage = nnx.merge(self.graphdefs[index], params[index], stats[index])
            x = stage(x, modes[index], momentum)
            new_stats[index] = nnx.to_pure_dict(nnx.state(stage, nnx.BatchStat))
            pooled.append(pool(x))
        return pooled, x, tuple(new_stats)


def pool(y: Float[Array, "n h w c"]) -> Float[Array, "n c"]:
    """Global average pooling."""
    return jnp.mean(y, axis=(1, 2))
