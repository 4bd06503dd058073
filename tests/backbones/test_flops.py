"""FLOPs of stages: each kind is lowered once, and stands for every stage of its kind."""

from typing import Any

import jax
import jax.numpy as jnp

from fteng.backbones.catalogue import load
from fteng.backbones.flops import stage_flops, total_flops
from fteng.config import BackboneConfig


def test_they_are_those_of_each_stage_lowered_alone():
    backbone, weights = load(BackboneConfig("resnet18", "random", last_stage="layer2_block2"))
    found = stage_flops(backbone, weights, 64, 4, {2, 4})
    x: Any = jax.ShapeDtypeStruct((4, 64, 64, 3), jnp.float32)
    for index in range(len(backbone.stages)):

        def run(one: Any, stats: Any, x: jax.Array, index: int = index) -> jax.Array:
            params = [one if other == index else None for other in range(len(backbone.stages))]
            return backbone.apply(params, stats, x, start=index, stop=index + 1)[0]

        def trained(one: Any, stats: Any, x: jax.Array, dy: jax.Array, run: Any = run) -> Any:
            return jax.vjp(lambda one, x: run(one, stats, x), one, x)[1](dy)

        def first(one: Any, stats: Any, x: jax.Array, dy: jax.Array, run: Any = run) -> Any:
            return jax.vjp(lambda one: run(one, stats, x), one)[1](dy)

        given = weights.params[index], weights.stats, x
        y = jax.eval_shape(run, *given)
        assert found.forward[index] == alone(run, *given)
        assert found.trained[index] == (alone(trained, *given, y) if index >= 2 else 0)
        if index in (2, 4):
            assert found.first[index] == alone(first, *given, y) < found.trained[index]
        x = y
    assert found.first.keys() == {2, 4}


def test_without_a_stage_that_trains_gradients_are_not_counted():
    backbone, weights = load(BackboneConfig("all_cnn_c", "random"))
    found = stage_flops(backbone, weights, 32, 4)
    assert min(found.forward) > 0
    assert not any(found.trained)
    assert not found.first


def alone(run: Any, *arguments: Any) -> float:
    return total_flops(jax.jit(run).lower(*arguments).cost_analysis()) / 4
