import numpy as np
import pytest

from fteng.data.prepare import Dataset
from fteng.probe import probe
from fteng.probe.logistic import fit
from fteng.probe.probe import STRENGTHS, choose_tap, fit_probe


def dataset(train, groups=None, labels=None):
    n = 40
    names = np.array([str(row) for row in range(n)])
    groups, labels = names if groups is None else groups, np.arange(n) % 2 if labels is None else labels
    splits = {"train": np.asarray(train), "val": np.arange(24, 32), "test": np.arange(32, 40)}
    return Dataset("made", ("a", "b"), np.zeros((n, 1, 1, 3), np.uint8), labels, names, groups, splits, "digest", {})


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


def test_the_tap_that_does_best_on_images_left_out_is_chosen():
    noise, dealt = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32), dataset(np.arange(24))
    knows = noise + (np.arange(40) % 2)[:, None]
    found = {name: fit_probe(features, dealt).left_out for name, features in {"a": noise, "b": knows, "c": noise}.items()}
    rows = [{"tap": name, "left_out_log_loss": loss} for name, loss in found.items()]
    assert found["b"] < np.log(2) < found["a"] + 0.1
    assert choose_tap(rows) == "b"
    # Of equal ones the last; as where nothing can be left out, of a single image.
    assert choose_tap([rows[0], rows[2]]) == "c"
    assert np.isnan(fit_probe(knows, dataset([0])).left_out)
    assert choose_tap([row | {"left_out_log_loss": None} for row in rows]) == "c"


def test_what_validation_says_does_not_choose_the_strength():
    """It will compare probes with tuned networks, and would flatter what it has chosen itself."""
    features = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32) + (np.arange(40) % 2)[:, None]
    other = np.where(np.arange(40) < 24, np.arange(40) % 2, 1 - np.arange(40) % 2)
    found, contrary = fit_probe(features, dataset(np.arange(24))), fit_probe(features, dataset(np.arange(24), labels=other))
    assert found.strength == contrary.strength
    np.testing.assert_array_equal(found.head["kernel"], contrary.head["kernel"])


def test_a_group_left_out_is_left_out_whole():
    """Each image has a twin in its group, and labels mean nothing: images by themselves would be known again by their twins."""
    # Of twelve groups some have labels by chance that features tell.
    rng = np.random.default_rng(4)
    features, labels = np.repeat(rng.normal(size=(20, 30)), 2, axis=0).astype(np.float32), np.repeat(rng.integers(0, 2, 20), 2)
    apart = fit_probe(features, dataset(np.arange(24), labels=labels))
    together = fit_probe(features, dataset(np.arange(24), np.repeat(np.arange(20), 2).astype(str), labels))
    assert apart.strength < 1e-2
    assert together.strength > 0.1


@pytest.mark.parametrize("train", [[0], [0, 1], [0, 1, 2]])
def test_of_one_group_alone_the_images_are_dealt(train):
    features = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    found = fit_probe(features, dataset(train, np.array(["one"] * 40)))
    assert np.isfinite(found.predictions["val"].logits).all()
    assert found.strength in STRENGTHS


def test_a_strength_whose_loss_is_no_number_is_not_chosen(monkeypatch):
    left_out = np.linspace(2.0, 1.0, len(STRENGTHS))
    left_out[[3, -1]] = np.nan
    monkeypatch.setattr(probe, "fit", lambda *arguments: fit(*arguments)._replace(left_out=left_out))
    features = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    assert fit_probe(features, dataset(np.arange(24))).strength == STRENGTHS[-2]
