"""How much work a stage is, as XLA counts what we have it do: a multiply-add is two, and a convolution that is computed by fewer
multiplications than its definition has counts fewer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fteng.backbones.backbone import Backbone
from fteng.backbones.weights import Weights


class StageFlops(NamedTuple):
    """FLOPs of one image, one entry a stage. forward: of the output; trained: of that, and the gradients of parameters and input;
    first: the same without the input's, as at the boundary. Zero in `trained` and `first` for stages that never train."""

    forward: tuple[float, ...]
    trained: tuple[float, ...]
    first: tuple[float, ...]


def stage_flops(backbone: Backbone, weights: Weights, size: int, batch: int, lowest: int | None = None) -> StageFlops:
    """Each stage for images of `size` pixels in batches of `batch`, lowered alone. Of the weights only shapes matter.

    lowest: the first stage that some plan trains; gradients are counted from there on, without it nowhere.
    """
    x = jax.eval_shape(backbone.preprocess.apply, jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8))
    shapes = jax.eval_shape(lambda: (weights.params, weights.stats))
    count = len(backbone.stages)
    lowest = count if lowest is None else lowest
    rows: list[tuple[float, float, float]] = []
    for index in range(count):
        params, stats = shapes

        def stage(one: Any, x: jax.Array, stats: Any, index: int = index) -> jax.Array:
            given = tuple(one if other == index else None for other in range(count))
            return backbone.apply(given, stats, x, start=index, stop=index + 1)[0]

        def trained(one: Any, x: jax.Array, stats: Any, dy: jax.Array, stage: Any = stage) -> Any:
            return jax.vjp(lambda one, x: stage(one, x, stats), one, x)[1](dy)

        def first(one: Any, x: jax.Array, stats: Any, dy: jax.Array, stage: Any = stage) -> Any:
            return jax.vjp(lambda one: stage(one, x, stats), one)[1](dy)

        y = jax.eval_shape(stage, params[index], x, stats)
        forward = _count(stage, params[index], x, stats)
        gradients = [_count(run, params[index], x, stats, y) if index >= lowest else 0.0 for run in (trained, first)]
        rows.append((forward / batch, gradients[0] / batch, gradients[1] / batch))
        x = y
    return StageFlops(*map(tuple, zip(*rows, strict=True)))


def total_flops(analysis: object) -> float:
    """The count in what jax's `cost_analysis` returns, which is a dict or a list of one. Raises KeyError where there is none."""
    first = analysis[0] if isinstance(analysis, list) else analysis
    if not isinstance(first, dict):
        raise KeyError(f"this backend does not count FLOPs: {type(analysis).__name__}")
    return float(first["flops"])


def _count(function: Any, *arguments: Any) -> float:
    return total_flops(jax.jit(function).lower(*arguments).cost_analysis())
