"""Curves: what sklearn has for one weighting, the metrics' own numbers at the points, and bands that cover."""

import warnings

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

from fteng.analysis.bootstrap import group_weights, interval
from fteng.analysis.roc import FALSE_RATES, POINTS, RECALLS, against_rest, one_against_rest, working_points
from fteng.results import Predictions


def made(rng: np.random.Generator, patients: int, *, classes: int = 2, images: int = 2, shift: float = 1.6) -> Predictions:
    """Patients with several images each, their scores correlated; the last class is the rarer one."""
    of_patient = rng.choice(classes, patients, p=[0.7, *[0.3 / (classes - 1)] * (classes - 1)])
    # No class is left without a patient.
    of_patient[: 2 * classes] = np.tile(np.arange(classes), 2)
    labels = np.repeat(of_patient, images)
    person = np.repeat(rng.normal(size=(patients, classes)), images, axis=0)
    logits = shift * np.eye(classes)[labels] + 0.7 * person + 0.7 * rng.normal(size=(len(labels), classes))
    groups = np.repeat([f"p{index}" for index in range(patients)], images)
    ids = np.array([f"i{index}" for index in range(len(labels))])
    return Predictions(ids, groups, labels.astype(np.int64), logits.astype(np.float32))


def test_values_are_those_of_sklearn() -> None:
    answers = made(np.random.default_rng(0), 150)
    weights = group_weights(answers.groups, 100, 0)
    found, mean = one_against_rest([answers], [1], weights, 0.95)
    assert len(found) == 1
    assert mean is found[0]
    score = answers.logits[:, 1].astype(float) - answers.logits[:, 0]
    false, true, _ = roc_curve(answers.labels, score, drop_intermediate=False)
    for at, value in zip(FALSE_RATES, found[0].roc.value, strict=True):
        assert value == pytest.approx(true[false <= at + 1e-9].max())
    precision, recall, _ = precision_recall_curve(answers.labels, score)
    for at, value in zip(RECALLS, found[0].precision.value, strict=True):
        assert value == pytest.approx(precision[np.flatnonzero(recall >= at - 1e-9)[-1]])


def test_points_are_the_metrics_of_that_name() -> None:
    rng = np.random.default_rng(1)
    first, second = made(rng, 120), made(rng, 120)
    second = second._replace(labels=first.labels, groups=first.groups, ids=first.ids)
    weights = group_weights(first.groups, 300, 0)
    points = one_against_rest([first, second], [1], weights, 0.9)[0][0].points
    for index, (kept, level) in enumerate(POINTS):
        other = "sensitivity" if kept == "specificity" else "specificity"
        expected = interval([first, second], f"{other}_at_{kept}_{round(100 * level)}", weights, 0.9)
        assert (points.value[index], points.low[index], points.high[index]) == pytest.approx(tuple(expected))


def test_several_classes_one_by_one_and_their_mean() -> None:
    answers = made(np.random.default_rng(2), 90, classes=3)
    weights = group_weights(answers.groups, 100, 0)
    found, mean = one_against_rest([answers], [0, 1, 2], weights, 0.95)
    assert len(found) == 3
    np.testing.assert_allclose(mean.roc.value, np.mean([one.roc.value for one in found], axis=0))
    assert (mean.roc.low <= mean.roc.value).all()
    assert np.isnan(mean.points.value).all()
    turned = against_rest(answers, 2)
    softmax = np.exp(answers.logits) / np.exp(answers.logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.exp(turned.logits[:, 1]), softmax[:, 2], rtol=1e-5)
    area = np.trapezoid(found[2].roc.value, FALSE_RATES)
    assert area == pytest.approx(roc_auc_score(answers.labels == 2, softmax[:, 2]), abs=0.01)


def test_ties_are_a_slope_and_constant_scores_the_diagonal() -> None:
    answers = made(np.random.default_rng(3), 60)
    constant = answers._replace(logits=np.zeros_like(answers.logits))
    weights = group_weights(answers.groups, 200, 0)
    curves = one_against_rest([constant], [1], weights, 0.95)[0][0]
    np.testing.assert_allclose(curves.roc.value, FALSE_RATES)
    np.testing.assert_allclose(curves.precision.value, answers.labels.mean())
    # Nothing but all or nothing can be had.
    np.testing.assert_allclose(curves.points.value, 0)
    found = working_points([constant], [constant], weights, 0.95)
    assert [point is not None and point.specificity[0] for point in found] == [1, 1, 0, 0]


def test_rounded_scores_do_not_depend_on_the_order_of_images() -> None:
    answers = made(np.random.default_rng(4), 80)
    rounded = answers._replace(logits=np.round(answers.logits))
    order = np.random.default_rng(5).permutation(len(answers.labels))
    shuffled = Predictions(*(values[order] for values in rounded))
    ones = np.ones((1, len(order)))
    one, other = (one_against_rest([seed], [1], ones, 0.95)[0][0] for seed in (rounded, shuffled))
    np.testing.assert_allclose(one.roc.value, other.roc.value)
    np.testing.assert_allclose(one.precision.value, other.precision.value)


def test_a_class_that_resamples_lack_has_no_band() -> None:
    # One of 20 groups is positive: more than one resample in three has none.
    labels = np.repeat([1] + [0] * 19, 3)
    groups = np.repeat(np.arange(20).astype(str), 3)
    logits = np.random.default_rng(6).normal(size=(60, 2)).astype(np.float32)
    answers = Predictions(np.arange(60).astype(str), groups, labels, logits)
    curves = one_against_rest([answers], [1], group_weights(groups, 300, 0), 0.95)[0][0]
    assert np.isfinite(curves.roc.value).all()
    assert np.isnan(curves.roc.low[:-1]).all()
    assert np.isnan(curves.precision.high).all()
    # Some resamples lack it, but fewer than one in ten: there is a band, of those that have it.
    enough = answers._replace(labels=np.repeat([1] * 4 + [0] * 16, 3))
    curves = one_against_rest([enough], [1], group_weights(groups, 300, 0), 0.95)[0][0]
    assert np.isfinite(curves.roc.low).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = answers._replace(labels=np.zeros(60, np.int64))
        assert np.isnan(one_against_rest([alone], [1], group_weights(groups, 50, 0), 0.95)[0][0].roc.value).all()
        assert working_points([alone], [alone], group_weights(groups, 50, 0), 0.95) == [None] * len(POINTS)


def test_bands_do_not_explode_near_one() -> None:
    # A mean over classes comes as near to 1 as it likes, where its logit has hardly a scale.
    answers = made(np.random.default_rng(11), 300, classes=4, shift=3.5)
    mean = one_against_rest([answers], range(4), group_weights(answers.groups, 300, 0), 0.95)[1]
    for band in (mean.roc, mean.precision):
        near = band.value > 0.99
        assert (band.value[near] < 1).sum() >= 3
        assert (band.high[near] <= 1).all()
        # Neighbours have like bounds.
        assert np.abs(np.diff(band.low[near])).max() < 0.1
        assert band.low[near].min() > 0.85


def test_a_diverged_seed_has_no_curve() -> None:
    answers = made(np.random.default_rng(7), 40)
    broken = answers._replace(logits=np.full_like(answers.logits, np.nan))
    weights = group_weights(answers.groups, 50, 0)
    assert np.isnan(one_against_rest([answers, broken], [1], weights, 0.95)[0][0].roc.value).all()
    assert working_points([answers, broken], [answers, broken], weights, 0.95) == [None] * len(POINTS)


def test_a_threshold_keeps_on_validation_what_it_promises() -> None:
    rng = np.random.default_rng(8)
    for decimals in (6, 0):
        val, test = made(rng, 100), made(rng, 100)
        val, test = (one._replace(logits=np.round(one.logits, decimals)) for one in (val, test))
        weights = group_weights(val.groups, 100, 0)
        on_itself = working_points([val], [val], weights, 0.95)
        curve = one_against_rest([val], [1], weights, 0.95)[0][0].points
        for (kept, level), point, best in zip(POINTS, on_itself, curve.value, strict=True):
            assert point is not None
            rates = {"sensitivity": point.sensitivity[0], "specificity": point.specificity[0]}
            assert rates.pop(kept) >= level - 1e-9
            # And nothing that keeps it does better.
            assert rates.popitem()[1] == pytest.approx(best)
        assert all(point is not None for point in working_points([val], [test], weights, 0.95))


def test_each_rate_at_a_threshold_rests_on_its_own_side() -> None:
    # Six groups with the condition, 300 without: how sure specificity is has nothing to do with the six.
    rng = np.random.default_rng(12)
    labels = np.repeat([1] * 6 + [0] * 300, 2)
    groups = np.repeat(np.arange(306).astype(str), 2)
    logits = np.stack([np.zeros(612), 2.0 * labels + rng.normal(size=612)], axis=1).astype(np.float32)
    answers = Predictions(np.arange(612).astype(str), groups, labels.astype(np.int64), logits)
    point = working_points([answers], [answers], group_weights(groups, 500, 0), 0.95)[0]
    assert point is not None
    value, low, high = point.specificity
    error = np.sqrt(value * (1 - value) / 600)
    assert high - low < 2 * 2.2 * error
    assert np.log(point.threshold / (1 - point.threshold)) == pytest.approx(point.log_odds)


@pytest.mark.slow
def test_bands_cover_in_patients_with_several_images() -> None:
    whole = made(np.random.default_rng(9), 60_000)
    truth = one_against_rest([whole], [1], np.ones((1, len(whole.labels))), 0.95)[0][0]
    places = {"roc": [4, 20, 25, 45], "precision": [15, 30, 45]}
    inside: dict[tuple[str, int], list[bool]] = {(name, at): [] for name, rows in places.items() for at in rows}
    for trial in range(300):
        sample = made(np.random.default_rng([10, trial]), 120)
        found = one_against_rest([sample], [1], group_weights(sample.groups, 200, trial), 0.95)[0][0]
        for name, at in inside:
            band, known = getattr(found, name), getattr(truth, name).value[at]
            inside[name, at].append(bool(band.low[at] <= known <= band.high[at]))
    shares = {key: np.mean(values) for key, values in inside.items()}
    assert min(shares.values()) > 0.88, shares
    assert np.mean(list(shares.values())) > 0.92, shares
