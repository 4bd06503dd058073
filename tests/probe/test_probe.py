import numpy as np

from fteng.data.prepare import Dataset
from fteng.probe.probe import STRENGTHS, fit_probe


def dataset(train):
    n = 40
    names = np.array([str(row) for row in range(n)])
    splits = {"train": np.asarray(train), "val": np.arange(24, 32), "test": np.arange(32, 40)}
    return Dataset("made", ("a", "b"), np.zeros((n, 1, 1, 3), np.uint8), np.arange(n) % 2, names, names, splits, "digest", {})


def test_of_equally_good_strengths_the_strongest():
    constant = fit_probe(np.ones((40, 3), np.float32), dataset(np.arange(24)))
    assert constant.strength == STRENGTHS[-1]
    assert constant.edge


def test_a_probe_on_a_part_is_that_of_a_smaller_data_set():
    features = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32) + (np.arange(40) % 2)[:, None]
    whole, part = dataset(np.arange(24)), np.arange(10)
    found, alone = fit_probe(features, whole, part), fit_probe(features, dataset(part))
    np.testing.assert_array_equal(found.head["kernel"], alone.head["kernel"])
    assert found.strength == alone.strength
    assert not np.array_equal(found.head["kernel"], fit_probe(features, whole).head["kernel"])
