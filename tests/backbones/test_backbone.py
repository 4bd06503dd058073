"""A backbone is its stages in order, for every split; batch norm does what its mode says; the weights are real."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
import sklearn.datasets
from flax import nnx
from PIL import Image

from fteng.backbones import convolution
from fteng.backbones.backbone import Backbone, BatchNormMode, Pass, Preprocess, average
from fteng.backbones.catalogue import load
from fteng.backbones.layers import BatchNorm
from fteng.config import BackboneConfig
from fteng.errors import UserError


@pytest.fixture(scope="module")
def lite0():
    return load(BackboneConfig("efficientnet_lite0", "package"))


def _square(image: np.ndarray) -> np.ndarray:
    """The middle 224 px of the image at 256 px."""
    picture = Image.fromarray(image)
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    resized = picture.crop((left, top, left + side, top + side)).resize((256, 256), Image.Resampling.BICUBIC)
    return np.asarray(resized)[16:240, 16:240]


@pytest.fixture(scope="module")
def photographs():
    pictures = (sklearn.datasets.load_sample_image("china.jpg"), skimage.data.chelsea(), skimage.data.coffee())
    return jnp.asarray(np.stack([_square(picture) for picture in pictures]))


def test_sees_a_palace_cats_and_espresso(lite0, photographs):
    backbone, weights = lite0
    outputs, _ = jax.jit(backbone.outputs)(weights.params, weights.stats, backbone.preprocess.apply(photographs))
    features = [backbone.pool(y) for y in outputs]
    assert tuple(feature.shape for feature in features) == tuple((3, channels) for channels in backbone.channels)
    scores = jax.nn.softmax(features[-1] @ weights.source_head["kernel"] + weights.source_head["bias"])
    palace, cat, espresso = np.asarray(scores)
    assert palace.argmax() == 698
    assert palace[698] > 0.3
    assert cat[[281, 282, 285]].sum() > 0.85
    assert espresso[967] == pytest.approx(0.95, abs=0.01)


def test_eighteen_stages_and_seven_groups_of_consecutive_ones(lite0):
    backbone, weights = lite0
    assert backbone.stages == ("stem", *(f"block{number}" for number in range(1, 17)), "conv_head")
    assert [name for names in backbone.groups.values() for name in names] == list(backbone.stages[1:-1])
    assert {group: len(names) for group, names in backbone.groups.items()} == dict(
        zip((f"stage{number}" for number in range(1, 8)), (1, 2, 2, 3, 3, 4, 1), strict=True)
    )
    assert len(weights.params) == len(weights.stats) == len(backbone.graphdefs) == 18
    assert sum(leaf.size for leaf in jax.tree.leaves((weights.params, weights.source_head))) == 4_652_008


@pytest.mark.slow
def test_prefix_then_suffix_is_the_whole_for_every_boundary(lite0):
    backbone, weights = lite0
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 32, 32, 3), np.float32))
    stage = jax.jit(backbone.apply, static_argnames=("start", "stop"))
    outputs = [x]
    for index in range(18):
        y, stats = stage(weights.params, weights.stats, outputs[-1], start=index, stop=index + 1)
        jax.tree.map(np.testing.assert_array_equal, stats, weights.stats)
        outputs.append(y)
    found, _ = jax.jit(backbone.outputs)(weights.params, weights.stats, x)
    whole = found[-1]
    for boundary in range(19):
        joined = outputs[boundary]
        for index in range(boundary, 18):
            joined, _ = stage(weights.params, weights.stats, joined, start=index, stop=index + 1)
        np.testing.assert_allclose(joined, whole, rtol=1e-4, atol=1e-4)
    for one, other in zip(found, outputs[1:], strict=True):
        np.testing.assert_allclose(average(one), average(other), rtol=1e-4, atol=1e-4)


def test_a_slice_that_is_none_is_refused(lite0):
    backbone, weights = lite0
    for start, stop in ((3, 2), (-1, 4), (0, 19)):
        with pytest.raises(ValueError, match="allowed 0 <= start <= stop <= 18"):
            backbone.apply(weights.params, weights.stats, jnp.ones((1, 8, 8, 3)), start=start, stop=stop)
    with pytest.raises(ValueError, match="one a stage"):
        backbone.apply(weights.params, weights.stats, jnp.ones((1, 8, 8, 3)), modes=[BatchNormMode.KEEP])


class _Norm(nnx.Module):
    def __init__(self):
        self.norm = BatchNorm(2, epsilon=1e-3)

    def __call__(self, x, how: Pass):
        return self.norm(x, how)


class _Double(nnx.Module):
    """A stage without parameters."""

    def __call__(self, x, how: Pass):
        del how
        return 2 * x


@pytest.fixture
def tiny():
    preprocess = Preprocess((1.0, 2.0, 3.0), (2.0, 2.0, 2.0), "BGR", "bilinear", 8)
    stages = (_Norm(), _Double(), _Norm())
    graphdefs = tuple(nnx.graphdef(stage) for stage in stages)
    backbone = Backbone("tiny", ("a", "b", "c"), {}, (2, 2, 2), preprocess, graphdefs)
    params = tuple(nnx.to_pure_dict(nnx.state(stage, nnx.Param)) for stage in stages)
    stats = tuple(nnx.to_pure_dict(nnx.state(stage, nnx.BatchStat)) for stage in stages)
    x = jnp.asarray(3 + 2 * np.random.default_rng(0).standard_normal((4, 3, 3, 2), np.float32))
    return backbone, params, stats, x


def test_keep_uses_and_returns_the_running_statistics(tiny):
    backbone, params, stats, x = tiny
    y, new = backbone.apply(params, stats, x, stop=1)
    np.testing.assert_allclose(y, x / np.sqrt(1.001), rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, new, stats)


def test_batch_normalises_with_the_batch_and_moves_the_statistics(tiny):
    backbone, params, stats, x = tiny
    modes = (BatchNormMode.BATCH, BatchNormMode.KEEP, BatchNormMode.KEEP)
    y, new = backbone.apply(params, stats, x, modes=modes, stop=1, momentum=jnp.asarray(0.75))
    mean, var = np.asarray(x).mean((0, 1, 2)), np.asarray(x).var((0, 1, 2))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-3), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(new[0]["norm"]["mean"], 0.25 * mean, rtol=1e-5)
    np.testing.assert_allclose(new[0]["norm"]["var"], 0.75 + 0.25 * var, rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, new[1:], stats[1:])


def test_observe_returns_the_statistics_of_what_the_layer_was_given(tiny):
    backbone, params, stats, x = tiny
    y, new = backbone.apply(params, stats, x, modes=BatchNormMode.OBSERVE)
    kept, _ = backbone.apply(params, stats, x)
    np.testing.assert_array_equal(y, kept)
    np.testing.assert_allclose(new[0]["norm"]["var"], np.asarray(x).var((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(new[2]["norm"]["mean"], np.asarray(2 * x / np.sqrt(1.001)).mean((0, 1, 2)), rtol=1e-5)


def test_preprocess_orders_channels_after_scaling(tiny):
    image = np.full((1, 1, 1, 3), (5, 8, 13), np.uint8)
    np.testing.assert_array_equal(tiny[0].preprocess.apply(jnp.asarray(image))[0, 0, 0], [5.0, 3.0, 2.0])


@pytest.mark.slow
def test_lite0_is_the_same_on_native_convolutions(lite0, monkeypatch: pytest.MonkeyPatch):
    backbone, weights = lite0
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 32, 32, 3), np.float32))

    def loss(params, stage):
        y, _ = backbone.apply(params, weights.stats, x, stop=stage)
        return jnp.mean(jnp.square(y))

    ours = jax.jit(jax.grad(loss), static_argnums=1)(weights.params, 3)
    monkeypatch.setattr(convolution, "dense", convolution.native)
    monkeypatch.setattr(convolution, "depthwise", convolution.native)
    native = jax.jit(jax.grad(lambda params: loss(params, 3)))(weights.params)
    for got, wanted in zip(jax.tree.leaves(ours[:3]), jax.tree.leaves(native[:3]), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-3, atol=1e-4 * max(float(jnp.abs(wanted).max()), 1e-6))


@pytest.mark.slow
def test_random_weights_depend_on_the_seed_alone_and_carry_signal():
    backbone, one = load(BackboneConfig("efficientnet_lite0", "random"), seed=1)
    again, other = (
        load(BackboneConfig("efficientnet_lite0", "random"), seed=1)[1],
        load(BackboneConfig("efficientnet_lite0", "random"), seed=2)[1],
    )
    jax.tree.map(np.testing.assert_array_equal, one.params, again.params)
    assert not np.array_equal(one.params[0]["conv"]["kernel"], other.params[0]["conv"]["kernel"])
    assert (one.digest, other.digest) == ("random:1", "random:2")
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4, 32, 32, 3), np.float32))
    y, _ = jax.jit(backbone.apply)(one.params, one.stats, x)
    assert 1e-3 < float(average(y).std(0).mean()) < 10


def test_unknown_backbone_names_the_nearest():
    with pytest.raises(UserError, match=r"got 'efficientnet-lite0', allowed: .*; did you mean efficientnet_lite0\?"):
        load(BackboneConfig("efficientnet-lite0", "random"))
