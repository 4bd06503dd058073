"""All-CNN-C has the paper's sizes and dropout, and files that it writes and reads alike. Its numbers are in test_networks.py."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fteng.backbones.backbone import average
from fteng.backbones.catalogue import find
from fteng.backbones.weights import fit, named
from fteng.errors import UserError

HEAD = {"kernel": np.ones((192, 10), np.float32), "bias": np.zeros(10, np.float32)}


@pytest.fixture(scope="module")
def network():
    return find("all_cnn_c")


@pytest.fixture(scope="module")
def numbers(network):
    return network.initial(0)


def test_places_of_each_stage_are_the_papers(network, numbers):
    backbone, x = network.backbone, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    places = []
    for index in range(len(backbone.stages)):
        x, _ = jax.eval_shape(partial(backbone.apply, start=index, stop=index + 1), *numbers, x)
        places.append(x.shape[1])
    assert places == [32, 32, 16, 16, 16, 8, 6, 6]
    assert [name for names in backbone.groups.values() for name in names] == list(backbone.stages)


def test_pooled_features_and_a_dense_head_are_the_papers_convolution_and_average(network, numbers):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 32, 32, 3), np.float32))
    y, _ = jax.jit(network.backbone.apply)(*numbers, x)
    kernel = jnp.asarray(np.random.default_rng(1).standard_normal((192, 10), np.float32))
    np.testing.assert_allclose(average(y) @ kernel, average(y @ kernel), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_dropout_is_on_the_image_and_after_each_stride(network, numbers):
    backbone = network.backbone

    @jax.jit
    def outputs(params, stats, x, key):
        pairs = []
        for index in range(len(backbone.stages)):
            dropped, _ = backbone.apply(params, stats, x, start=index, stop=index + 1, key=key)
            x, _ = backbone.apply(params, stats, x, start=index, stop=index + 1)
            pairs.append((x, dropped))
        return pairs

    images = np.random.default_rng(0).standard_normal((4, 32, 32, 3), np.float32)
    # Of this kind, as the usual one takes seconds to compile on a CPU.
    pairs = outputs(*numbers, images, jax.random.key(0, impl="rbg"))
    for stage, (y, dropped) in zip(backbone.stages, jax.tree.map(np.asarray, pairs), strict=True):
        if stage in ("conv3", "conv6"):
            kept = dropped != 0
            np.testing.assert_allclose(dropped[kept], 2 * y[kept], rtol=1e-4, atol=1e-5)
            assert kept.sum() / (y > 0).sum() == pytest.approx(0.5, abs=0.02)
        else:
            assert np.allclose(dropped, y, rtol=1e-4, atol=1e-5) == (stage != "conv1")


def test_a_file_in_our_names_is_read_as_it_was_written(network, numbers):
    params, stats = jax.tree.map(np.asarray, numbers)
    tensors = named(network.namings[0], params, stats, HEAD)
    assert tensors["conv7.weight"].shape == (192, 192, 3, 3)
    assert tensors["head.weight"].shape == (10, 192)
    weights = fit(network, tensors, "drawn", "a file")
    assert weights.naming == "fteng"
    jax.tree.map(np.testing.assert_array_equal, (weights.params, weights.source_head), (params, HEAD))


def test_a_cut_file_names_what_is_missing(network, numbers):
    params, stats = jax.tree.map(np.asarray, numbers)
    tensors = named(network.namings[0], params, stats, HEAD)
    with pytest.raises(UserError, match=r"missing 1 \(conv2\.bias\)") as caught:
        fit(network, {name: tensor for name, tensor in tensors.items() if name != "conv2.bias"}, "drawn", "a file")
    assert "\n" not in str(caught.value)
