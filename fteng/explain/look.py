"""One walk of images through a whole network: pooled outputs of every stage, and the one output that a map is made of."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float32, Int, UInt8

from fteng.feed import padded
from fteng.model import Model

_BATCH = 32


class Look(NamedTuple):
    """A compiled walk, weights being its arguments: parameters and statistics of ALL stages of the backbone.

    stage: index of the stage whose places a map shows: the last up to the tap that has more than one, or of tokens the first, the
    patches; tokens: whether outputs are (n, tokens, c), the class token first; features: (parameters, statistics, images, rows of
    them) -> pooled outputs, one a stage; outputs: the same -> the output of `stage`, (rows, *place, channels).
    """

    stage: int
    tokens: bool
    features: Callable[..., list[Float32[np.ndarray, "n _"]]]
    outputs: Callable[..., Float32[np.ndarray, "n *place c"]]


def make_look(model: Model) -> Look:
    """For this model's tap, and for every other trial of its study."""
    backbone, shapes = model.backbone, _shapes(model)
    tokens = len(shapes[0]) == 3
    stage = 0 if tokens else max((index for index, shape in enumerate(shapes) if shape[1] * shape[2] > 1), default=0)

    def walk(params: Any, stats: Any, images: UInt8[Array, "b side side 3"]) -> tuple[list[Array], Array]:
        found, _ = backbone.outputs(params, stats, backbone.preprocess.apply(images))
        return [backbone.pool(y) for y in found], found[stage]

    run = jax.jit(walk)

    def batches(
        params: Any, stats: Any, images: UInt8[np.ndarray, "n side side 3"], rows: Int[np.ndarray, "m"]
    ) -> list[tuple[list[Array], Array]]:
        # Restored arrays are bound to their device and would ask for a program of their own.
        params, stats = jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf)), (params, stats))
        found = []
        for part, count in padded(rows, _BATCH):
            pooled, seen = run(params, stats, np.asarray(images[part]))
            found.append(([y[:count] for y in pooled], seen[:count]))
        return found

    def features(*arguments: Any) -> list[Float32[np.ndarray, "n _"]]:
        parts = [pooled for pooled, _ in batches(*arguments)]
        return [np.concatenate([np.asarray(part[index]) for part in parts]) for index in range(len(backbone.stages))]

    def outputs(*arguments: Any) -> Float32[np.ndarray, "n *place c"]:
        return np.concatenate([np.asarray(seen) for _, seen in batches(*arguments)])

    return Look(stage, tokens, features, outputs)


def all_stages(model: Model) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """(parameters, statistics) of every stage: behind the tap those it started from, so that all models are one program."""
    end = len(model.plan.stages)
    return (*model.parameters.stages, *model.source.params[end:]), (*model.stats, *model.source.stats[end:])


def _shapes(model: Model) -> list[tuple[int, ...]]:
    """Of one image's output of each stage up to the tap; nothing is computed."""
    side, end = model.config.data.image_size, len(model.plan.stages)

    def outputs(params: Any, stats: Any, x: Array) -> list[Array]:
        return model.backbone.outputs(params, stats, x, stop=end)[0]

    image = jax.ShapeDtypeStruct((1, side, side, 3), np.float32)
    return [y.shape for y in jax.eval_shape(outputs, model.parameters.stages, model.stats, image)]
