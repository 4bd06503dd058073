"""From images to the activations at an entry, segment by segment: the same few programs whether a cache is filled or a batch is
recomputed, so that both give the same bits."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Key, Shaped, UInt8

from fteng.backbones.backbone import Backbone
from fteng.config import TrainConfig
from fteng.data.augment import augment_each, view_keys
from fteng.entry import Entry
from fteng.mesh import ALONE, Mesh
from fteng.train.start import Start

# Runs of a segment after the one that compiles it; the fastest counts.
_TIMED = 2


class Walk:
    """The programs from image to entry for one network. entries: all that will be asked for; they are where segments end. mesh:
    over which batches are split; what starts hold lies there too."""

    def __init__(self, backbone: Backbone, recipe: TrainConfig, entries: Iterable[Entry], mesh: Mesh = ALONE) -> None:
        self._backbone, self.mesh = backbone, mesh
        self.entries = tuple(sorted(set(entries)))
        self._cuts = sorted({0, *(entry.stage for entry in self.entries)})
        self._kept = jnp.dtype(recipe.activations)
        self.exact = self._kept == jnp.float32
        preprocess = backbone.preprocess

        def seen(
            images: UInt8[Array, "b h w 3"], rows: Int[Array, "b"], views: Int[Array, "b"], key: Key[Array, ""]
        ) -> Float[Array, "b h w 3"]:
            return mesh.split(preprocess.apply(augment_each(view_keys(key, rows, views), images, recipe.augment)))

        def plain(images: UInt8[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
            return mesh.split(preprocess.apply(images))

        self._plain = jax.jit(plain)
        self._view = jax.jit(seen) if recipe.augment else None
        self._segments = {cuts: self._segment(*cuts) for cuts in zip(self._cuts, self._cuts[1:], strict=False)}
        self._pool = jax.jit(lambda x: mesh.split(backbone.pool(x)))
        self._leave = {pooled: jax.jit(self._leaving(pooled)) for pooled in (False, True)}

    def _segment(self, start: int, stop: int) -> Callable[..., Array]:
        def run(params: Any, stats: Any, x: Float[Array, "b *place c"]) -> Float[Array, "b *other c2"]:
            return self.mesh.split(self._backbone.apply(params, stats, x, start=start, stop=stop)[0])

        return jax.jit(run)

    def _leaving(self, pooled: bool) -> Callable[[Array], Array]:
        def leave(x: Float[Array, "b *place c"]) -> Float[Array, "b *_"]:
            return self.mesh.split((self._backbone.pool(x) if pooled else x).astype(self._kept))

        return leave

    def begin(
        self, images: UInt8[Array, "b h w 3"], rows: Int[np.ndarray, "b"], views: Int[np.ndarray, "b"] | None, seed: int
    ) -> Float[Array, "b h w 3"]:
        """Preprocessed images: view number `views` of each, or with None as they are."""
        if self._view is None or views is None:
            return self._plain(images)
        put = self.mesh.batch(rows.astype(np.int32)), self.mesh.batch(views.astype(np.int32))
        return self._view(images, *put, self.mesh.whole(jax.random.key(seed)))

    def onward(self, start: Start, x: Float[Array, "b *place c"], begin: int, stage: int) -> Float[Array, "b *other c2"]:
        """From the output of the first `begin` stages to that of the first `stage`, both of them cuts."""
        for low, high in self._segments:
            if begin <= low and high <= stage:
                with self.mesh.tracing():
                    x = self._segments[low, high](start.stages[:high], start.stats[:high], x)
        return x

    def leave(self, x: Float[Array, "b *place c"], entry: Entry) -> Array:
        """Activations as they are kept: pooled where the entry is, in the kept precision; images as they came."""
        return x if entry == Entry(0) else self._leave[entry.pooled](x)

    def pooled(self, x: Float[Array, "b *place c"]) -> Float[Array, "b features"]:
        """Features of a tap, in float32."""
        return self._pool(x)

    def shapes(self, start: Start, size: int, batch: int) -> dict[Entry, jax.ShapeDtypeStruct]:
        """Of a batch at every entry; nothing is computed."""
        found: dict[Entry, jax.ShapeDtypeStruct] = {}
        images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
        params, stats = jax.eval_shape(lambda: (start.stages, start.stats))
        x, at = jax.eval_shape(self._plain, images), 0
        for entry in self.entries:
            for low, high in self._segments:
                if at <= low and high <= entry.stage:
                    x, at = jax.eval_shape(self._segments[low, high], params[:high], stats[:high], x), high
            found[entry] = x if entry == Entry(0) else jax.eval_shape(self._leave[entry.pooled], x)
        return found

    def seconds(self, start: Start, images: UInt8[Array, "b h w 3"]) -> dict[int, float]:
        """An image's seconds from the images to each cut, measured on this batch; what must be compiled is compiled before."""
        found, total = {0: 0.0}, 0.0
        x = jax.block_until_ready(self._plain(images))
        for low, high in self._segments:
            taken: list[float] = []
            y = x
            for _ in range(1 + _TIMED):
                began = time.perf_counter()
                y = jax.block_until_ready(self.onward(start, x, low, high))
                taken.append(time.perf_counter() - began)
            x = y
            total += min(taken[1:]) / len(images)
            found[high] = total
        return found


def as_float32(x: Array) -> Float32[Array, "b *place c"]:
    """What was kept in half precision, for the step; float32 is handed on."""
    return x if x.dtype == jnp.float32 else x.astype(jnp.float32)


def rounding(values: Shaped[np.ndarray, "b *place"], kept: Shaped[np.ndarray, "b *place"]) -> float:
    """The largest error of `kept` against `values`, as a share of their root mean square."""
    scale = max(float(np.sqrt(np.mean(np.square(values)))), 1e-30)
    return float(np.abs(values - kept.astype(np.float32)).max()) / scale
