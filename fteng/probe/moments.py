"""Mean and variance of every batch-norm layer's input, and of every stage's output, over many batches from what each batch says."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from fteng.backbones.backbone import Backbone, BatchNormMode
from fteng.backbones.weights import Weights
from fteng.data.prepare import Dataset
from fteng.train.evaluate import batches
from fteng.train.feed import Feed

Tree = Any


def adapt(
    backbone: Backbone, weights: Weights, dataset: Dataset, feed: Feed, batch_size: int, on_images: Callable[[int], None]
) -> Weights:
    """The weights with the batch-norm statistics of the training images in place of the source's (Li et al. 2016, AdaBN).
    on_images(k): k more images are through.

    Each layer sees what earlier layers make of the batch's own statistics, as in training mode; the moments of whole batches
    are averaged (precise statistics, Wu and Johnson 2021), not smoothed.
    """

    mesh = feed.mesh

    def one_batch(params: Tree, stats: Tree, images: Array) -> Tree:
        x = backbone.preprocess.apply(images)
        return mesh.join(backbone.apply(params, stats, x, modes=BatchNormMode.BATCH, momentum=0.0)[1])

    run, (params, stats) = jax.jit(one_batch), mesh.whole((weights.params, weights.stats))
    total, seen = None, 0
    # Sources come class by class, and a batch of one class would be normalised as one.
    rows = np.random.default_rng(0).permutation(dataset.splits["train"])
    for part, counted in batches(rows, batch_size):
        # A padded batch counts its last image more than once; a set smaller than a batch has nothing else.
        if counted == batch_size or total is None:
            # Whole on every device: split, each layer would be two sums over devices, and the bits would depend on their number.
            images = mesh.whole(feed.take(part))
            with mesh.tracing():
                found = run(params, stats, images)
            total = add_moments(total, found, 1)
            seen += 1
        on_images(counted)
    moments = central_moments(total, seen)
    return weights._replace(stats=jax.tree.map(lambda values: jnp.asarray(values, jnp.float32), moments))


def output_moments(y: Float[Array, "n *place c"], counts: Bool[Array, "n"]) -> dict[str, Float[Array, "c"]]:
    """`mean` and biased `var` of each channel over the images that count and all their places; of tokens, over all tokens.

    Zeros, and not computed, where no image counts.
    """

    def computed() -> dict[str, Float[Array, "c"]]:
        wide = y.astype(jnp.float32)
        places = tuple(range(1, y.ndim - 1))
        share = counts / jnp.sum(counts)
        # The mean first, and then about it: a difference of two large squares would lose the variance in float32.
        mean = share @ jnp.mean(wide, axis=places)
        return {"mean": mean, "var": share @ jnp.mean(jnp.square(wide - mean), axis=places)}

    # A reading of every activation is some percent of a pass on a CPU: not for images whose moments nobody asks for.
    zeros = {name: jnp.zeros(y.shape[-1]) for name in ("mean", "var")}
    return jax.lax.cond(jnp.any(counts), computed, lambda: zeros)


def add_moments(total: Tree | None, moments: Tree, weight: int) -> Tree:
    """The total with a batch's `mean` and `var` (a dict a layer) in it, of so many images or, where all batches have one size, 1.

    In float64 on the host, as sums of mean and mean square; begin with None.
    """

    def raw(layer: dict[str, Any]) -> dict[str, Float[np.ndarray, "c"]]:
        mean, var = (np.asarray(layer[name], np.float64) for name in ("mean", "var"))
        return {"mean": weight * mean, "square": weight * (var + mean**2)}

    new = jax.tree.map(raw, jax.device_get(moments), is_leaf=_is_layer)
    return new if total is None else jax.tree.map(np.add, total, new)


def central_moments(total: Tree, weight: int) -> Tree:
    """Mean and biased variance, float64, from the sum by `add_moments` of that weight in all."""

    def central(layer: dict[str, Float[np.ndarray, "c"]]) -> dict[str, Float[np.ndarray, "c"]]:
        mean = layer["mean"] / weight
        return {"mean": mean, "var": np.maximum(layer["square"] / weight - mean**2, 0.0)}

    return jax.tree.map(central, total, is_leaf=_is_layer)


def _is_layer(node: Any) -> bool:
    return isinstance(node, dict) and "mean" in node
