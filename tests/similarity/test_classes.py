import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestCentroid

from fteng.analysis.drawn import group_folds, subsample
from fteng.similarity import classes, source_names, task
from fteng.similarity.stages import choose
from fteng.undefined import UndefinedError


def problem(n=60, channels=5, kinds=3):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % kinds
    return (rng.standard_normal((n, channels)) + 2 * rng.standard_normal((kinds, channels))[labels]).astype(np.float32), labels


def test_silhouette_is_that_of_scikit_learn():
    features, labels = problem()
    labels[0] = 7  # alone in its class
    assert classes.silhouette(features, labels) == pytest.approx(silhouette_score(features.astype(float), labels), rel=1e-5)


def test_scatter_is_the_share_of_the_sums_of_squares():
    features, labels = problem()
    within = sum(((features[labels == k] - features[labels == k].mean(axis=0)) ** 2).sum() for k in range(3))
    assert classes.scatter(features, labels) == pytest.approx(within / ((features - features.mean(axis=0)) ** 2).sum(), rel=1e-5)
    assert classes.scatter(np.eye(3)[labels], labels) == pytest.approx(0)


def test_nearest_mean_is_that_of_scikit_learn_fold_by_fold():
    features, labels = problem()
    folds = group_folds(labels, np.arange(60), 5, 0)
    found = classes.nearest_mean(features, labels, folds)
    for rows in folds:
        left = np.setdiff1d(np.arange(60), rows)
        np.testing.assert_array_equal(found[rows], NearestCentroid().fit(features[left], labels[left]).predict(features[rows]))


@pytest.mark.parametrize("measure", [classes.scatter, classes.silhouette])
def test_one_image_a_class_and_one_class_say_why(measure):
    features, labels = problem(6)
    for names in (np.arange(6), np.zeros(6, int)):
        with pytest.raises(UndefinedError):
            measure(features, names)
    with pytest.raises(UndefinedError, match="constant"):
        measure(np.ones((6, 2)), labels)


def test_folds_cut_no_group_and_hold_every_class():
    labels = np.repeat([0, 1, 2], 20)
    groups = np.repeat(np.arange(30), 2)
    folds = group_folds(labels, groups, 5, 0)
    assert sorted(np.concatenate(folds)) == list(range(60))
    assert all(set(labels[rows]) == {0, 1, 2} for rows in folds)
    assert all(not set(groups[rows]) & set(np.delete(groups, rows)) for rows in folds)
    with pytest.raises(UndefinedError, match="two groups"):
        group_folds(labels, np.zeros(60), 5, 0)


def test_subsample_keeps_shares_and_the_rarest_class():
    labels = np.array([0] * 900 + [1] * 99 + [2])
    rows = subsample(labels, 100, 0)
    assert np.bincount(labels[rows]).tolist() == pytest.approx([90, 9, 1], abs=1)
    assert len(rows) == len(set(rows.tolist())) == 100
    assert subsample(labels, 5000, 0).tolist() == list(range(1000))


def test_source_classes_that_are_seen_most_come_first_with_their_images():
    logits = np.full((6, 1000), -10.0)
    logits[:4, 207] = 10
    logits[4:, 1] = 10
    labels = np.array([0, 0, 0, 0, 1, 1])
    names, about = source_names.source_names(1000)
    seen = classes.seen_classes(logits, labels, names, ("a", "b"))
    assert [row["name"] for row in seen.classes[:2]] == ["golden retriever", "goldfish"]
    assert "ImageNet" in about
    assert seen.classes[0]["share"] == pytest.approx(4 / 6, abs=1e-3)
    assert seen.classes[0]["by_class"]["b"] < 1e-6
    assert set(seen.classes[1]["rows"][:2]) == {4, 5}
    logs = log_softmax(logits, axis=1)
    assert seen.entropy == pytest.approx(-(np.exp(logs) * logs).sum(axis=1).mean() / np.log(1000))
    assert source_names.source_names(3)[0][2] == "source class 2"


def test_source_head_that_knows_the_classes_is_useful_and_a_missing_one_says_so():
    labels, ids = np.repeat([0, 1], 30), np.array([f"i{i}" for i in range(60)])
    images = np.random.default_rng(0).integers(0, 255, (60, 120, 120, 3), np.uint8)
    chosen = choose(labels, ids, np.arange(60), 60)
    logits = 20 * np.eye(4)[labels]
    found = task.ask_source_head(logits, chosen, chosen, ("a", "b"), "accuracy", ids, images)
    assert found["useful"]["value"] == pytest.approx(1, abs=1e-6)
    assert found["classifier"]["value"] == 1
    # Two sure answers tell next to nothing of labels dealt at random.
    assert -0.01 < found["useful"]["zero"]["low"] <= found["useful"]["zero"]["mean"] < 0.1
    halves = choose(labels, np.repeat(["one", "two"], 30), np.arange(60), 60)
    dealt = task.ask_source_head(logits, halves, halves, ("a", "b"), "accuracy", ids, None)["useful"]["zero"]
    mixed = choose(labels, np.repeat(["one", "two"], [20, 40]), np.arange(60), 60)
    assert task.ask_source_head(logits, mixed, mixed, ("a", "b"), "accuracy", ids, None)["useful"]["zero"] is None
    # Two groups exchange their labels whole, and are told apart as well as before.
    assert dealt["low"] == pytest.approx(1, abs=1e-6)
    assert found["seen"][0]["examples"][0]["jpeg"].startswith("/9j/")
    unseen = task.ask_source_head(logits, chosen, chosen, ("a", "b"), "accuracy", ids, None)
    assert all(row["examples"] == [] for row in unseen["seen"])
    nothing = task.ask_source_head(None, chosen, chosen, ("a", "b"), "accuracy", ids, images)
    assert nothing["useful"] == {"value": None, "reason": "the weights have no source head", "zero": None}
    infinite = task.ask_source_head(np.full_like(logits, np.inf), chosen, chosen, ("a", "b"), "accuracy", ids, images)
    assert "not finite" in infinite["leep"]["reason"]
