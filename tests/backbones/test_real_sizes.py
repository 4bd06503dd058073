"""At the sizes of a study, where a compiler takes other ways than on the small arrays of the other tests.

XLA:CPU (jaxlib 0.10.2) sums some products wrongly from some thousand numbers on (https://github.com/jax-ml/jax/issues/39103); in
float64 it takes another way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fteng.backbones.backbone import BatchNormMode
from fteng.backbones.catalogue import load
from fteng.config import BackboneConfig


def wide(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), tree)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "images", "size"),
    [("efficientnet_lite0", 32, 128), ("resnet18", 16, 128), ("convnext_tiny", 2, 224), ("vit_small_patch16", 4, 224)],
)
def test_every_stage_and_its_slopes_are_those_of_float64(name, images, size):
    backbone, weights = load(BackboneConfig(name, "random"))
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(images, size, size, 3)), jnp.float32)
    for index in range(len(backbone.stages)):

        def forward(stage, x, stats, *, index=index):
            params = (*weights.params[:index], stage, *weights.params[index + 1 :])
            return backbone.apply(params, stats, x, start=index, stop=index + 1, modes=BatchNormMode.BATCH)[0]

        def slopes(stage, x, stats, upstream, forward=forward):
            y, back = jax.vjp(lambda stage, x: forward(stage, x, stats), stage, x)
            return y, *back(upstream)

        upstream = rng.normal(size=jax.eval_shape(forward, weights.params[index], x, weights.stats).shape)
        numbers = weights.params[index], x, weights.stats
        found = jax.jit(slopes)(*numbers, jnp.asarray(upstream, jnp.float32))
        with jax.enable_x64(True):
            wanted = jax.jit(slopes)(*wide(numbers), jnp.asarray(upstream))
            assert wanted[0].dtype == np.float64
            wanted = jax.tree.map(np.asarray, wanted)
        for (path, one), other in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(wanted), strict=True):
            # A rectifier whose input is next to zero is on in one of the two and off in the other: some numbers, not many.
            away = np.linalg.norm(np.asarray(one, np.float64) - other)
            # Some slopes are zero but for rounding, as of a bias before a batch norm.
            assert away <= 1e-2 * np.linalg.norm(other) + 1e-6 * np.linalg.norm(upstream), (index, jax.tree_util.keystr(path))
        x = found[0]
