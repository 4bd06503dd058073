"""The relative gradient norm, against differences of the loss itself."""

import jax
import numpy as np
import pytest

from fteng.data.prepare import Dataset
from fteng.feed import make_feed
from fteng.probe.gradient import gradient_to_weight
from tests.probe.tiny_network import images, tiny_network, tiny_weights

N, CLASSES, STEP = 8, 3, 1e-2


@pytest.fixture
def case():
    backbone, rng = tiny_network().backbone, np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, N)
    names = np.array([str(row) for row in range(N)])
    dataset = Dataset("made", ("a", "b", "c"), images(N), labels, names, names, {"train": np.arange(N)}, "digest", {})
    head = {"kernel": rng.normal(size=(6, CLASSES)), "bias": rng.normal(size=CLASSES)}
    return backbone, tiny_weights(tiny_network()), head, dataset


def make_loss(backbone, first, stats, head, dataset):
    """The loss as a function of the second stage, written out."""

    @jax.jit
    def pooled(second):
        y, _ = backbone.apply((first, second), stats, backbone.preprocess.apply(jax.numpy.asarray(dataset.images)))
        return y.mean(axis=(1, 2))

    def loss(second) -> float:
        logits = np.asarray(pooled(second), np.float64) @ head["kernel"] + head["bias"]
        return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(N), dataset.labels]))

    return loss


@pytest.mark.parametrize("batch_size", [2, pytest.param(8, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.slow)])
def test_it_is_the_slope_of_the_loss_over_the_weights(case, batch_size):
    backbone, weights, head, dataset = case
    found = gradient_to_weight(backbone, weights, head, dataset, make_feed(dataset.images), N, batch_size)
    assert len(found) == len(backbone.stages)
    # The second stage is linear in each of its weights, and few: each is moved for itself.
    stage = weights.params[1]
    leaves, tree = jax.tree.flatten(jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), stage))
    loss, slopes = make_loss(backbone, weights.params[0], weights.stats, head, dataset), []
    for leaf in leaves:
        for place in np.ndindex(leaf.shape):
            ends = []
            for sign in (1, -1):
                leaf[place] += sign * STEP
                ends.append(loss(jax.tree.unflatten(tree, [each.astype(np.float32) for each in leaves])))
                leaf[place] -= sign * STEP
            slopes.append((ends[0] - ends[1]) / (2 * STEP))
    expected = np.linalg.norm(slopes) / np.sqrt(sum(float((leaf**2).sum()) for leaf in leaves))
    assert found[1] == pytest.approx(expected, rel=1e-2)


def test_a_stage_without_weights_has_none(case):
    backbone, weights, head, dataset = case
    silent = weights._replace(params=(jax.tree.map(np.zeros_like, weights.params[0]), weights.params[1]))
    found = gradient_to_weight(backbone, silent, head, dataset, make_feed(dataset.images), N, N)
    assert np.isnan(found[0])
    assert np.isfinite(found[1])
