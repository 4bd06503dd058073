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
from fteng.feed import Feed, padded

Tree = Any


def adapt(
    backbone: Backbone, weights: Weights, dataset: Dataset, feed: Feed, batch_size: int, on_images: Callable[[int], None]
) -> Weights:
    """The weights with the batch-norm statistics of the training images in place of the source's (Li et al. 2016, AdaBN).
    on_images(k): k more images are through.

    Each layer sees what earlier layers make of the batch's own statistics, as in training mode; the moments of whole batches
    are averaged (precise statistics, Wu and Johnson 2021), not smoothed.
    """

    def one_batch(params: Tree, stats: Tree, images: Array) -> Tree:
        x = backbone.preprocess.apply(images)
        return backbone.apply(params, stats, x, modes=BatchNormMode.BATCH, momentum=0.0)[1]

    run = jax.jit(one_batch)
    total, seen = None, 0
    # Sources come class by class, and a batch of one class would be normalised as one.
    rows = np.random.default_rng(0).permutation(dataset.splits["train"])
    for part, counted in padded(rows, batch_size):
        # A padded batch counts its last image more than once; a set smaller than a batch has nothing else.
        if counted == batch_size or total is None:
            # On one device: split, each layer would be two sums over devices, and the bits would hang on their number.
            found = run(weights.params, weights.stats, feed.mesh.here(feed.take(part)))
            total = add_moments(total, found, 1)
            seen += 1
        on_images(counted)
    moments = central_moments(total, seen)
    return weights._replace(stats=jax.tree.map(lambda values: jnp.asarray(values, jnp.float32), moments))


def image_moments(y: Float[Array, "n *place c"], wanted: Bool[Array, ""]) -> dict[str, Float[Array, "n c"]]:
    """`mean` and biased `var` of each channel of each image over its places; of tokens, over all tokens.

    Zeros, and not computed, where they are not wanted. Image by image there is nothing to add over devices: XLA:CPU runs sums that
    are inside a condition in any order, and devices that meet in different ones wait for ever.
    """

    def computed() -> dict[str, Float[Array, "n c"]]:
        wide = y.astype(jnp.float32)
        places = tuple(range(1, y.ndim - 1))
        # The mean first, and then about it: a difference of two large squares would lose the variance in float32.
        mean = jnp.mean(wide, axis=places, keepdims=True)
        return {"mean": mean.reshape(zeros.shape), "var": jnp.mean(jnp.square(wide - mean), axis=places)}

    zeros = jnp.zeros((y.shape[0], y.shape[-1]), jnp.float32)
    # A reading of every activation is some percent of a pass on a CPU: not for images whose moments nobody asks for.
    return jax.lax.cond(wanted, computed, lambda: {"mean": zeros, "var": zeros})


def moments_of_all(layers: Tree, images: int) -> Tree:
    """From what `image_moments` says of each of the first so many images, what they are together: float64 `mean` and biased `var`,
    (c,), a layer."""

    def together(layer: dict[str, Any]) -> dict[str, Float[np.ndarray, "c"]]:
        mean, var = (np.asarray(layer[name][:images], np.float64) for name in ("mean", "var"))
        return {"mean": mean.mean(0), "var": var.mean(0) + mean.var(0)}

    return jax.tree.map(together, jax.device_get(layers), is_leaf=_is_layer)


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
