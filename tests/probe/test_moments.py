"""One pass gives the moments that numpy gives on all outputs stacked."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from fteng.backbones.backbone import BatchNormMode
from fteng.backbones.catalogue import load
from fteng.config import BackboneConfig
from fteng.data.prepare import Dataset
from fteng.feed import make_feed
from fteng.probe.features import extract, observe, output_widths
from fteng.probe.moments import adapt, add_moments, central_moments, image_moments, moments_of_all
from tests.probe.tiny_network import SIZE, images, tiny_network, tiny_weights

NETWORK = tiny_network()
WEIGHTS = tiny_weights(NETWORK)
BACKBONE = NETWORK.backbone
WANTED = jnp.asarray(True)


def outputs_of(shown):
    """Of each stage, run whole and kept whole."""
    y, found = BACKBONE.preprocess.apply(jnp.asarray(shown)), []
    for index in range(2):
        y, _ = BACKBONE.apply(WEIGHTS.params, WEIGHTS.stats, y, start=index, stop=index + 1)
        found.append(np.asarray(y, np.float64))
    return found


def dataset(shown, train):
    n = len(shown)
    rest = np.setdiff1d(np.arange(n), train)
    names = np.array([str(row) for row in range(n)])
    splits = {"train": np.asarray(train), "val": rest[::2], "test": rest[1::2]}
    return Dataset("made", ("a", "b"), shown, np.arange(n) % 2, names, names, splits, "digest", {})


@pytest.mark.parametrize("count", [3, 16, 21])
def test_outputs_are_exact_whatever_the_batches(count):
    shown = images(count)
    found = observe(BACKBONE, WEIGHTS, np.arange(count), make_feed(shown), 8, lambda _: None)
    for layer, whole in zip(found.outputs, outputs_of(shown), strict=True):
        assert layer["mean"].dtype == layer["var"].dtype == np.float64
        np.testing.assert_allclose(layer["mean"], whole.mean((0, 1, 2)), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(layer["var"], whole.var((0, 1, 2)), rtol=1e-5)


def test_extract_sees_the_training_images_alone_and_the_taps_of_all():
    shown, train, told = images(30), [1, 2, 3, 5, 8, 13, 21, 22, 23, 29], []
    found = extract(BACKBONE, WEIGHTS, dataset(shown, train), make_feed(shown), 4, told.append)
    assert sum(told) == 30
    for layer, tap, whole in zip(found.moments.outputs, found.taps, outputs_of(shown), strict=True):
        np.testing.assert_allclose(tap, whole.mean((1, 2)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(layer["mean"], whole[train].mean((0, 1, 2)), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(layer["var"], whole[train].var((0, 1, 2)), rtol=1e-5)


def test_inputs_of_batch_norm_are_those_of_whole_batches():
    shown = images(10)
    found = observe(BACKBONE, WEIGHTS, np.arange(10), make_feed(shown), 4, lambda _: None)
    x = BACKBONE.preprocess.apply(jnp.asarray(shown[:8]))
    _, stats = BACKBONE.apply(WEIGHTS.params, WEIGHTS.stats, x, modes=BatchNormMode.OBSERVE)
    for part in ("mean", "var"):
        np.testing.assert_allclose(found.inputs[0]["norm"][part], stats[0]["norm"][part], rtol=1e-5, atol=1e-6)
    assert found.inputs[1] == {}


def test_adapted_statistics_are_those_of_the_training_images():
    shown = images(12)
    adapted = adapt(BACKBONE, WEIGHTS, dataset(shown, np.arange(8)), make_feed(shown), 4, lambda _: None)
    found = observe(BACKBONE, WEIGHTS, np.arange(8), make_feed(shown), 4, lambda _: None)
    for part in ("mean", "var"):
        values = adapted.stats[0]["norm"][part]
        assert values.dtype == jnp.float32
        np.testing.assert_allclose(values, found.inputs[0]["norm"][part], rtol=1e-5, atol=1e-6)


def test_a_channel_far_from_zero_keeps_its_variance():
    rng = np.random.default_rng(0)
    y = (3000 + rng.normal(0, 0.5, (16, 10, 10, 2))).astype(np.float32)
    total = None
    for part in np.split(y, 4):
        total = add_moments(total, moments_of_all(image_moments(jnp.asarray(part), WANTED), 4), 4)
    found = central_moments(total, 16)
    np.testing.assert_allclose(found["var"], y.astype(np.float64).var((0, 1, 2)), rtol=1e-3)
    # What squares summed in float32 would have made of it.
    naive = np.square(y).mean((0, 1, 2), dtype=np.float32) - np.square(y.mean((0, 1, 2), dtype=np.float32))
    assert np.abs(naive / y.astype(np.float64).var((0, 1, 2)) - 1).max() > 0.05


def test_nothing_is_nothing_and_no_nan():
    found = image_moments(jnp.ones((2, 3, 3, 4)), jnp.asarray(False))
    assert {values.shape for values in found.values()} == {(2, 4)}
    assert all((values == 0).all() for values in found.values())


def test_tokens_and_images_that_do_not_count():
    y = np.random.default_rng(1).normal(size=(5, 7, 3)).astype(np.float32)
    found = moments_of_all(image_moments(jnp.asarray(y), WANTED), 3)
    np.testing.assert_allclose(found["mean"], y[:3].mean((0, 1)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["var"], y[:3].var((0, 1)), rtol=1e-5)


def test_widths_are_of_the_output_and_not_of_the_features():
    doubled = dataclasses.replace(BACKBONE, pool=lambda y: jnp.concatenate([y.mean((1, 2))] * 2, -1), channels=(8, 12))
    assert output_widths(doubled, WEIGHTS, SIZE) == [4, 6]


@pytest.mark.slow
def test_adapting_does_not_take_one_class_at_a_time():
    """Dark images first, then bright ones, as folders come: batches of one class would be normalised as one."""
    backbone, weights = load(BackboneConfig("resnet18", "random"))
    rng = np.random.default_rng(0)
    shown = np.clip(rng.normal(90, 40, (64, 32, 32, 3)) + np.repeat([0, 90], 32)[:, None, None, None], 0, 255).astype(np.uint8)
    found = adapt(backbone, weights, dataset(shown, np.arange(64)), make_feed(shown), 16, lambda _: None)
    mixed = rng.permutation(64)
    other = adapt(backbone, weights, dataset(shown[mixed], np.arange(64)), make_feed(shown[mixed]), 16, lambda _: None)
    ratio = np.asarray(found.stats[3]["norm1"]["var"]) / np.asarray(other.stats[3]["norm1"]["var"])
    # Class by class it is a tenth more.
    assert abs(ratio.mean() - 1) < 0.02
