"""How much work a stage is, as XLA counts what we have it do: a multiply-add is two, and a convolution that is computed by fewer
multiplications than its definition has counts fewer."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from fteng.backbones.backbone import Backbone, Pass
from fteng.backbones.weights import Weights


class StageFlops(NamedTuple):
    """FLOPs of one image, one entry a stage. forward: of the output; trained: of that, and the gradients of parameters and input
    (zero for stages that never train); first: the same without the input's, of each stage at which some plan begins to train."""

    forward: tuple[float, ...]
    trained: tuple[float, ...]
    first: Mapping[int, float]


def stage_flops(
    backbone: Backbone, weights: Weights, size: int, batch: int, boundaries: Collection[int] = frozenset()
) -> StageFlops:
    """Each stage for images of `size` pixels in batches of `batch`, lowered alone. Of the weights only shapes matter.

    boundaries: the stages at which some plan begins to train; gradients are counted from the lowest on, without one nowhere.
    """
    x = jax.eval_shape(backbone.preprocess.apply, jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8))
    shapes = jax.eval_shape(lambda: tuple(zip(weights.params, weights.stats, strict=True)))
    lowest = min(boundaries, default=len(backbone.stages))
    # A network repeats its blocks, and to lower one takes a tenth of a second: each kind is lowered once.
    kinds: dict[_Stage, _Stage] = {}
    forward: list[float] = []
    trained: list[float] = []
    first: dict[int, float] = {}
    for index, (graph, numbers) in enumerate(zip(backbone.graphdefs, shapes, strict=True)):
        leaves, structure = jax.tree.flatten(numbers)
        stage = _Stage(graph, structure, tuple(leaves), x)
        stage = kinds.setdefault(stage, stage)
        forward.append(stage.forward / batch)
        trained.append(stage.trained / batch if index >= lowest else 0.0)
        if index in boundaries:
            first[index] = stage.first / batch
        x = stage.lowered.out_info
    return StageFlops(tuple(forward), tuple(trained), first)


@dataclass(frozen=True)
class _Stage:
    """All that its FLOPs depend on. structure, leaves: of its parameters and statistics; x: its input."""

    graph: "nnx.GraphDef[Any]"
    structure: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]
    x: jax.ShapeDtypeStruct

    def _run(self, params: Any, stats: Any, x: jax.Array) -> jax.Array:
        return nnx.merge(self.graph, params, stats)(x, Pass())

    def _slope(self, run: Callable[..., Any]) -> float:
        """FLOPs of run(params, stats, x, dy)."""
        return total_flops(jax.jit(run).lower(*self._numbers, self.x, self.lowered.out_info).cost_analysis())

    @property
    def _numbers(self) -> tuple[Any, Any]:
        return jax.tree.unflatten(self.structure, self.leaves)

    @cached_property
    def lowered(self) -> jax.stages.Lowered:
        """Forward."""
        return jax.jit(self._run).lower(*self._numbers, self.x)

    @cached_property
    def forward(self) -> float:
        return total_flops(self.lowered.cost_analysis())

    @cached_property
    def trained(self) -> float:
        def run(params: Any, stats: Any, x: jax.Array, dy: jax.Array) -> Any:
            return jax.vjp(lambda params, x: self._run(params, stats, x), params, x)[1](dy)

        return self._slope(run)

    @cached_property
    def first(self) -> float:
        def run(params: Any, stats: Any, x: jax.Array, dy: jax.Array) -> Any:
            return jax.vjp(lambda params: self._run(params, stats, x), params)[1](dy)

        return self._slope(run)


def total_flops(analysis: object) -> float:
    """The count in what jax's `cost_analysis` returns, which is a dict or a list of one. Raises KeyError where there is none."""
    first = analysis[0] if isinstance(analysis, list) else analysis
    if not isinstance(first, dict):
        raise KeyError(f"this backend does not count FLOPs: {type(analysis).__name__}")
    return float(first["flops"])
