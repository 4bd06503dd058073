"""A backbone: an ordered list of named stages, run as pure functions over one parameter tree and one statistics tree a stage.

The first level of both trees is the list of stages, so freezing, caching and truncating are slices of it.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key, UInt8

from fteng.data.pixels import Resampling

Tree = Any


class BatchNormMode(enum.Enum):
    """What a batch-norm layer normalises with, and what it hands back as its statistics."""

    KEEP = "keep"
    """Running statistics; handed back unchanged."""
    BATCH = "batch"
    """Mean and variance of the batch; running statistics move towards them."""
    OBSERVE = "observe"
    """Running statistics; handed back are the batch's own mean and biased variance of the layer's input."""


class Pass(NamedTuple):
    """How a stage is run once. momentum: share of the old statistics that BATCH keeps; key: of dropout, None for no dropout."""

    batch_norm: BatchNormMode = BatchNormMode.KEEP
    momentum: float | Float[Array, ""] = 0.9
    key: Key[Array, ""] | None = None


class Preprocess(NamedTuple):
    """How the weights want their images. mean, std: one number a channel on the 0..255 scale, in the order R, G, B; crop: share of
    the image's side that their own evaluation looks at."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: str
    interpolation: str
    image_size: int
    crop: float = 1.0

    @property
    def resampling(self) -> Resampling:
        """What of this is done to an image before it is bytes of its final size."""
        return Resampling(self.interpolation, self.crop)

    def apply(self, images: UInt8[Array, "n h w 3"]) -> Float[Array, "n h w 3"]:
        """RGB bytes -> floats in the network's channel order."""
        x = (images.astype(jnp.float32) - jnp.asarray(self.mean)) / jnp.asarray(self.std)
        return x[..., ::-1] if self.channel_order == "BGR" else x


def average(y: Float[Array, "n h w c"]) -> Float[Array, "n c"]:
    """Global average pooling: what a tap of a convolutional network reads."""
    return jnp.mean(y, axis=(1, 2))


@dataclass(frozen=True)
class Backbone:
    """A network without its numbers; those are arguments: params and stats, one pure dict a stage.

    stages: names in order. groups: coarse names for consecutive stages. channels: of each stage's pooled output. graphdefs: one a
    stage; merged with its numbers, each is called as stage(x, Pass). pool: from a stage's output to its features.
    """

    name: str
    stages: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    channels: tuple[int, ...]
    preprocess: Preprocess
    graphdefs: tuple["nnx.GraphDef[Any]", ...]
    pool: Callable[[jax.Array], jax.Array] = average

    def apply(
        self,
        params: Sequence[Tree],
        stats: Sequence[Tree],
        x: Float[Array, "n *place c"],
        *,
        start: int = 0,
        stop: int | None = None,
        modes: Sequence[BatchNormMode] | BatchNormMode = BatchNormMode.KEEP,
        momentum: float | Float[Array, ""] = 0.9,
        key: Key[Array, ""] | None = None,
    ) -> tuple[Float[Array, "n *other_place channels"], tuple[Tree, ...]]:
        """Runs stages[start:stop] on `x`: preprocessed images if start is 0, else the output of stage start - 1.

        modes: one for all, or one a stage of the whole list. momentum: share of the old statistics that BATCH keeps. key: of
        dropout; without one nothing is dropped. Returns the output and all statistics, those of the stages that ran replaced.
        """
        outputs, new_stats = self.outputs(params, stats, x, start=start, stop=stop, modes=modes, momentum=momentum, key=key)
        return outputs[-1] if outputs else x, new_stats

    def outputs(
        self,
        params: Sequence[Tree],
        stats: Sequence[Tree],
        x: Float[Array, "n *place c"],
        *,
        start: int = 0,
        stop: int | None = None,
        modes: Sequence[BatchNormMode] | BatchNormMode = BatchNormMode.KEEP,
        momentum: float | Float[Array, ""] = 0.9,
        key: Key[Array, ""] | None = None,
    ) -> tuple[list[Float[Array, "n *_"]], tuple[Tree, ...]]:
        """`apply` with the output of every stage that ran, in order; `pool` makes features of channels[i] channels of each."""
        count = len(self.stages)
        stop = count if stop is None else stop
        if not 0 <= start <= stop <= count:
            raise ValueError(f"stages [{start}:{stop}] of {self.name}: allowed 0 <= start <= stop <= {count}")
        modes = (modes,) * count if isinstance(modes, BatchNormMode) else tuple(modes)
        if min(len(modes), len(params), len(stats)) < stop:
            raise ValueError(
                f"{self.name}: one a stage up to {stop}; got {len(modes)} modes, {len(params)} params, {len(stats)} stats"
            )
        found: list[Float[Array, "n *_"]] = []
        new_stats = list(stats)
        for index in range(start, stop):
            stage = nnx.merge(self.graphdefs[index], params[index], stats[index])
            x = stage(x, Pass(modes[index], momentum, None if key is None else jax.random.fold_in(key, index)))
            new_stats[index] = nnx.to_pure_dict(nnx.state(stage, nnx.BatchStat))
            found.append(x)
        return found, tuple(new_stats)
