import jax.numpy as jnp
import numpy as np
import pytest

from fteng.train.batches import epoch_order
from fteng.train.step import balanced_loss

SHARES = np.array([0.9, 0.1])
LOGITS = jnp.asarray([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
TARGETS = jnp.asarray([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
LOSSES = np.log1p(np.exp([-2.0, -1.0, 0.0]))


@pytest.mark.parametrize(
    ("balance", "expected"),
    [
        ("none", LOSSES.mean()),
        ("sampling", LOSSES.mean()),
        ("weights", (LOSSES * [1 / 1.8, 1 / 0.2, 1 / 1.8]).mean()),
        ("logits", np.log1p(np.exp([-2 - np.log(9), -1 + np.log(9), -np.log(9)])).mean()),
    ],
)
def test_each_way_by_hand(balance, expected):
    np.testing.assert_allclose(balanced_loss(LOGITS, TARGETS, SHARES, balance), expected, rtol=1e-5)


def test_order_is_a_permutation_that_seed_and_epoch_decide():
    labels = np.array([0] * 90 + [1] * 10)
    order = epoch_order(labels, seed=1, epoch=2)
    assert sorted(order) == list(range(100))
    np.testing.assert_array_equal(order, epoch_order(labels, seed=1, epoch=2))
    assert not np.array_equal(order, epoch_order(labels, seed=1, epoch=3))
    assert not np.array_equal(order, epoch_order(labels, seed=2, epoch=2))


def test_balanced_sampling_draws_rare_classes_as_often():
    labels = np.array([0] * 900 + [1] * 100)
    drawn = labels[epoch_order(labels, seed=0, epoch=0, balanced=True)]
    assert len(drawn) == 1000
    assert 430 < drawn.sum() < 570
