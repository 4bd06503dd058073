"""The gradient of each stage before any tuning, relative to its weights: what the network itself says wants to change."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Int32, UInt8

from fteng.backbones.backbone import Backbone
from fteng.backbones.weights import Weights
from fteng.data.prepare import Dataset
from fteng.feed import Feed
from fteng.train.step import head_logits

Tree = Any


def gradient_to_weight(
    backbone: Backbone,
    weights: Weights,
    head: Mapping[str, Float[np.ndarray, "..."]],
    dataset: Dataset,
    feed: Feed,
    images: int,
    batch_size: int,
) -> list[float]:
    """Relative gradient norm, one a stage (Lee et al. 2023, "Surgical fine-tuning"): |mean gradient| / |weights| of the loss.

    The loss is the cross-entropy of `head` (`kernel`, `bias`) over the last tap; the mean is over `images` training images, or as
    many as there are, drawn with a seed, in whole batches. A stage without weights has nan.
    """
    mesh = feed.mesh

    def loss(params: Tree, stats: Tree, x: UInt8[Array, "b h w 3"], labels: Int32[Array, "b"], head: Tree) -> Float[Array, ""]:
        y, _ = backbone.apply(params, stats, backbone.preprocess.apply(x))
        logits = head_logits(head, backbone.pool(y))
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    run = mesh.compile(jax.grad(loss))
    rows = _whole_batches(dataset.splits["train"], images, batch_size)
    params, stats, last = mesh.whole(
        (weights.params, weights.stats, {name: jnp.asarray(x, jnp.float32) for name, x in head.items()})
    )
    total = jax.tree.map(jnp.zeros_like, params)
    for part, x in zip(rows, feed.batches(list(rows)), strict=True):
        with mesh.tracing():
            found = run(params, stats, x, mesh.batch(dataset.labels[part].astype(np.int32)), last)
        total = jax.tree.map(jnp.add, total, found)
    return [_norm(slope) / len(rows) / _norm(stage) if _norm(stage) else np.nan for slope, stage in zip(total, params, strict=True)]


def _whole_batches(rows: Int[np.ndarray, "n"], images: int, batch_size: int) -> Int[np.ndarray, "k b"]:
    drawn = np.random.default_rng(0).permutation(rows)
    each = min(batch_size, len(drawn))
    count = max(1, min(images, len(drawn)) // each)
    return drawn[: count * each].reshape(count, each)


def _norm(tree: Tree) -> float:
    return float(optax.tree.norm(tree))
