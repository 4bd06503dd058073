"""How much work a stage is."""

import jax
import jax.numpy as jnp

from fteng.backbones.backbone import Backbone
from fteng.backbones.weights import Weights


def stage_flops(backbone: Backbone, weights: Weights, size: int) -> list[float]:
    """FLOPs of each stage for one image of `size` pixels, as XLA counts the lowered program (a multiply-add is two)."""
    x = jax.eval_shape(backbone.preprocess.apply, jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8))
    flops = []
    for index in range(len(backbone.stages)):

        def stage(x: jax.Array, index: int = index) -> jax.Array:
            return backbone.apply(weights.params, weights.stats, x, start=index, stop=index + 1)[0]

        flops.append(total_flops(jax.jit(stage).lower(x).cost_analysis()))
        x = jax.eval_shape(stage, x)
    return flops


def total_flops(analysis: object) -> float:
    """The count in what jax's `cost_analysis` returns, which is a dict or a list of one. Raises KeyError where there is none."""
    first = analysis[0] if isinstance(analysis, list) else analysis
    if not isinstance(first, dict):
        raise KeyError(f"this backend does not count FLOPs: {type(analysis).__name__}")
    return float(first["flops"])
