"""One pass over the images: pooled features of every stage, the source classifier's answers, and the moments of the profile."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, UInt8

from fteng.backbones.backbone import Backbone, BatchNormMode
from fteng.backbones.weights import Weights
from fteng.data.prepare import Dataset
from fteng.train.evaluate import batches
from fteng.train.feed import Feed


class Features(NamedTuple):
    """taps: one a stage, rows as in the data set; moments: one tree a stage like the batch-norm statistics,
    `mean` and `var` of each layer's input over the training images."""

    taps: list[Float32[np.ndarray, "n _"]]
    moments: tuple[Any, ...]


def extract(
    backbone: Backbone, weights: Weights, dataset: Dataset, feed: Feed, batch_size: int, on_images: Callable[[int], None]
) -> Features:
    """Run every image once through every stage, with the source statistics. on_images(k): k more images are through."""

    def one_batch(images: UInt8[Array, "b h w 3"]) -> tuple[list[Float[Array, "b _"]], tuple[Any, ...]]:
        x = backbone.preprocess.apply(images)
        pooled, _, moments = backbone.taps(weights.params, weights.stats, x, modes=BatchNormMode.OBSERVE)
        return pooled, moments

    run = jax.jit(one_batch)
    n = len(dataset.labels)
    taps = [np.empty((n, channels), np.float32) for channels in backbone.channels]
    total, seen = None, 0
    for split, rows in dataset.splits.items():
        for part, counted in batches(rows, batch_size):
            pooled, moments = run(feed.take(part))
            for tap, values in zip(taps, pooled, strict=True):
                tap[part[:counted]] = np.asarray(values)[:counted]
            # A padded batch counts its last image more than once; a set smaller than a batch has nothing else.
            if split == "train" and (counted == batch_size or total is None):
                raw = jax.tree.map(np.asarray, jax.tree.map(_raw_moments, moments, is_leaf=_is_layer))
                total = raw if total is None else jax.tree.map(np.add, total, raw)
                seen += 1
            on_images(counted)
    return Features(taps, jax.tree.map(lambda layer: _central_moments(layer, seen), total, is_leaf=_is_layer))


def _is_layer(node: Any) -> bool:
    return isinstance(node, dict) and "mean" in node


def _raw_moments(layer: dict[str, Float[Array, "c"]]) -> dict[str, Float[Array, "c"]]:
    """Moments that add up over batches of one size: the mean and the mean square."""
    return {"mean": layer["mean"], "square": layer["var"] + jnp.square(layer["mean"])}


def _central_moments(layer: dict[str, Float[np.ndarray, "c"]], batch_count: int) -> dict[str, Float[np.ndarray, "c"]]:
    mean = layer["mean"] / batch_count
    return {"mean": mean, "var": np.maximum(layer["square"] / batch_count - mean**2, 0.0)}
