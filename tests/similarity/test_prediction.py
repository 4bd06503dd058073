import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits

from fteng.analysis.drawn import group_folds
from fteng.similarity.folklore import folklore
from fteng.similarity.predict import EVIDENCE, every_plan, predict
from fteng.similarity.ridge import STRENGTHS, gram, out_of_fold
from fteng.similarity.rows import standardised
from fteng.undefined import UndefinedError

STAGES = ("a", "b", "c", "d")


@pytest.fixture(autouse=True)
def one_core_a_product():
    with threadpool_limits(limits=1):
        yield


def taps(seed, knows, n=150):
    """Four stages of noise; those named in `knows` tell the three classes apart."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return [
        rng.standard_normal((n, 6)) + (3.0 * np.eye(3)[labels] @ rng.standard_normal((3, 6)) if stage in knows else 0)
        for stage in STAGES
    ], labels


def predicted(features, labels, steps=99, metric="accuracy", probe="b"):
    groups = np.arange(len(labels))
    folds = group_folds(labels, groups, 5, 0)
    return predict(STAGES, [gram(x) for x in features], labels, groups, folds, metric, steps, probe)


def test_answers_out_of_fold_are_those_of_fitting_without_the_fold():
    features, labels = taps(0, "a")
    folds = group_folds(labels, np.arange(150), 5, 0)
    found = out_of_fold(gram(features[0]), labels, folds)
    errors = []
    for strength in STRENGTHS:
        answers = np.empty((150, 3))
        # A constant column in place of the constant that is added to the kernel; penalised like the others.
        x = np.hstack([standardised(features[0]) / np.sqrt(6), np.ones((150, 1))])
        for rows in folds:
            left = np.setdiff1d(np.arange(150), rows)
            ridge = Ridge(alpha=150 * strength, fit_intercept=False).fit(x[left], np.eye(3)[labels[left]])
            answers[rows] = ridge.predict(x[rows])
        errors.append((((answers - np.eye(3)[labels]) ** 2).mean(), answers))
    np.testing.assert_allclose(found, min(errors, key=lambda pair: pair[0])[1], atol=1e-8)


def test_every_tap_and_every_depth_is_a_plan():
    plans = every_plan(STAGES)
    assert [(plan.tap, plan.freeze_depth) for plan in plans if not plan.tuned] == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]
    assert [(plan.tap, plan.freeze_depth) for plan in plans if plan.tuned] == [("d", 0), ("d", 1), ("d", 2), ("d", 3)]


def test_where_steps_are_few_the_classifier_that_folds_chose_is_advised():
    found = predicted(*taps(0, "b"))
    assert (found.chosen.tap, found.chosen.tuned) == ("b", False)
    assert predicted(*taps(0, "b"), probe="c").chosen.tap == "c"
    assert "in 99 steps of training, fewer than 100, it may not get there" in found.reason
    best = found.ranking[0]
    assert best["low"] <= best["predicted"] <= best["high"]
    assert sum(row["best_share"] for row in found.ranking) == pytest.approx(1)
    by_depth = {row["freeze_depth"]: row["predicted"] for row in found.ranking if row["tuned"]}
    # Behind the one that knows there is nothing left to tune with.
    assert min(by_depth[0], by_depth[1], by_depth[2]) > by_depth[3] + 0.2


def test_of_depths_that_the_images_cannot_tell_apart_the_one_that_tunes_most_is_advised():
    features, labels = taps(0, "bc")
    found = predicted(features, labels, steps=100)
    level = [row["freeze_depth"] for row in found.ranking if row["tuned"] and row["equal"]]
    assert len(level) > 1
    assert found.chosen == ("d", min(level), True)
    assert f"cannot tell apart {len(level)} of the depths" in found.reason


def test_a_depth_that_is_predicted_worse_is_not_advised_though_it_tunes_more():
    features, labels = taps(0, "cd")
    grams = [gram(x) for x in features]
    # Noise so loud, and of so many directions, that what is learned from it too is learned by heart.
    for stage in (0, 1):
        grams[stage] = 50 * gram(np.random.default_rng(stage).standard_normal((len(labels), 100)))
    groups = np.arange(len(labels))
    found = predict(STAGES, grams, labels, groups, group_folds(labels, groups, 5, 0), "accuracy", 1000, "a")
    worse = {row["freeze_depth"] for row in found.ranking if row["tuned"] and not row["equal"]}
    assert {0, 1} <= worse
    assert found.chosen == ("d", min({0, 1, 2, 3} - worse), True)


def test_the_evidence_is_that_of_the_record():
    rows = json.loads((Path(__file__).parents[2] / "benchmarks" / "records" / "advice.json").read_text())["rows"]
    totals = {row["name"]: row for row in rows if row.get("what") == "regret" and row["group"] == "judging"}
    ours, everything = totals["ours"], totals["everything"]
    assert f"{ours['n']} small studies of such images run after that it lost {ours['median']:.1f} points in the median" in EVIDENCE
    assert f"{ours['worst']:.1f} at worst; always tuning everything" in EVIDENCE
    assert f"in which ours said nothing, {everything['median']:.1f} and {everything['worst']:.1f}." in EVIDENCE
    assert everything["n"] == ours["n"] + 1


def test_constant_stages_have_no_prediction_and_all_constant_says_so():
    features, labels = taps(0, "b")
    features[3] = np.ones_like(features[3])
    found = predicted(features, labels)
    assert "d" not in {row["tap"] for row in found.ranking if not row["tuned"]}
    assert all(np.isfinite(row["predicted"]) for row in found.ranking)
    with pytest.raises(UndefinedError, match="constant"):
        predicted([np.ones_like(x) for x in features], labels)


@pytest.mark.parametrize(
    ("images", "shift", "useful", "declared", "cell", "plan"),
    [
        (20, 0.1, None, "different", "little and similar", ("d", 4, False)),
        (20, 0.9, 1.0, "", "little and different", ("b", 2, False)),
        (500, 0.1, None, "", "much and similar", ("d", 0, True)),
        (500, None, 0.1, "", "much and different", ("d", 0, True)),
        (99, None, 0.6, "", "little and similar", ("d", 4, False)),
        (99, None, None, "", "little and different", ("b", 2, False)),
        (99, None, None, "similar", "little and similar", ("d", 4, False)),
    ],
)
def test_the_folklore_has_four_cells(images, shift, useful, declared, cell, plan):
    told = folklore(STAGES, images, shift, useful, declared)
    assert (told.cell, tuple(told.plan)) == (cell, plan)
