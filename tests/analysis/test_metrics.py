import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.preprocessing import label_binarize

from benchmarks.simulated import as_predictions
from fteng.analysis.metrics import METRICS, applicable, evaluate, probabilities_of, resampled
from fteng.results import Predictions


def _set(classes: int, n: int = 90, ties: bool = False, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """labels (n,), probabilities (n, classes), whole weights (n,) with zeros."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    raw = rng.random((n, classes)) + 0.3 * np.eye(classes)[labels]
    if ties:
        # Sixteenths: exact in binary, so equal scores are equal in both codes.
        raw = rng.integers(1, 4, (n, classes)).astype(float)
        if classes == 2:
            raw[:, 1] = rng.integers(1, 16, n)
            raw[:, 0] = 16 - raw[:, 1]
    return labels, raw / raw.sum(axis=1, keepdims=True), rng.integers(0, 4, n)


def _roc(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    false, true, _ = reference.roc_curve(labels, probabilities[:, 1], sample_weight=weights, drop_intermediate=False)
    return false, true


def _official_partial_auc(false: np.ndarray, true: np.ndarray) -> float:
    """As in the official scorer: cut the curve at 80 % sensitivity, trapezoids of what is right of it."""
    first = int(np.searchsorted(true, 0.8))
    cut = np.interp(0.8, true[first - 1 : first + 1], false[first - 1 : first + 1])
    return float(reference.auc(np.append(cut, false[first:]), np.append(0.8, true[first:])))


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_metric_of_scikit_learn_agrees(classes: int, ties: bool, weighted: bool) -> None:
    labels, probabilities, weights = _set(classes, ties=ties)
    w = weights if weighted else np.ones(len(labels), int)
    predicted = probabilities.argmax(axis=1)
    if classes == 2:
        auc = reference.roc_auc_score(labels, probabilities[:, 1], sample_weight=w)
        precision = reference.average_precision_score(labels, probabilities[:, 1], sample_weight=w)
        brier = reference.brier_score_loss(labels, probabilities[:, 1], sample_weight=w)
    else:
        auc = reference.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro", sample_weight=w)
        onehot = label_binarize(labels, classes=range(classes))
        precision = reference.average_precision_score(onehot, probabilities, sample_weight=w)
        brier = reference.brier_score_loss(labels, probabilities, sample_weight=w)
    expected = {
        "accuracy": reference.accuracy_score(labels, predicted, sample_weight=w),
        "balanced_accuracy": reference.balanced_accuracy_score(labels, predicted, sample_weight=w),
        "auc": auc,
        "average_precision": precision,
        "log_loss": reference.log_loss(labels, probabilities, sample_weight=w),
        "brier": brier,
    }
    for name, value in expected.items():
        assert METRICS[name].function(labels, probabilities, w) == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [False, True])
def test_operating_points_agree_with_the_roc_curve_of_scikit_learn(ties: bool, seed: int) -> None:
    labels, probabilities, weights = _set(2, ties=ties, seed=seed)
    false, true = _roc(labels, probabilities, weights)
    for level in (80, 90, 95):
        sensitivity = METRICS[f"sensitivity_at_specificity_{level}"].function(labels, probabilities, weights)
        assert sensitivity == pytest.approx(true[1 - false >= level / 100 - 1e-12].max(), abs=1e-12)
        specificity = METRICS[f"specificity_at_sensitivity_{level}"].function(labels, probabilities, weights)
        assert specificity == pytest.approx((1 - false)[true >= level / 100 - 1e-12].max(), abs=1e-12)
    partial = METRICS["partial_auc"].function(labels, probabilities, weights)
    assert partial == pytest.approx(_official_partial_auc(false, true), abs=1e-12)


def test_a_specificity_that_is_met_exactly_counts_as_met() -> None:
    # 20 negatives, one of them above all positives: 95 % specificity is 19 of 20.
    score = np.concatenate([np.linspace(-3, -1, 19), [3.0], np.linspace(1, 2, 10)])
    found = evaluate(as_predictions(np.repeat([0, 1], [20, 10]), score))
    assert found["sensitivity_at_specificity_95"] == 1
    assert found["specificity_at_sensitivity_95"] == 0.95


@pytest.mark.parametrize(("name", "classes"), [(metric.name, classes) for classes in (2, 4) for metric in applicable(classes)])
def test_whole_weights_are_repeated_images(name: str, classes: int) -> None:
    for ties in (False, True):
        labels, probabilities, weights = _set(classes, ties=ties, seed=3)
        rows = np.repeat(np.arange(len(labels)), weights)
        repeated = METRICS[name].function(labels[rows], probabilities[rows])
        assert METRICS[name].function(labels, probabilities, weights) == pytest.approx(repeated, abs=1e-12)
        # Other weights in the same call leave a row alone.
        both = METRICS[name].over(labels, probabilities, np.stack([np.ones_like(weights), weights]))
        assert both[1] == pytest.approx(repeated, abs=1e-12)


def test_ece_of_a_worked_example() -> None:
    # 30 distinct forecasts: two a bin, both said p and one of the two came true, so each bin's gap is |mean p - 1/2|.
    p = (np.arange(30) + 0.5) / 30
    labels = np.arange(30) % 2
    gaps = np.abs(p.reshape(15, 2).mean(axis=1) - 0.5)
    assert METRICS["ece"].function(labels, np.stack([1 - p, p], axis=1)) == pytest.approx(gaps.mean(), abs=1e-12)
    constant = np.full((40, 2), 0.5)
    assert METRICS["ece"].function(np.arange(40) % 4 // 3, constant) == pytest.approx(0.25)


def test_undefined_is_none_and_never_zero() -> None:
    score = np.array([0.5, -1.0, 2.0])
    for labels in (np.zeros(3, int), np.ones(3, int)):
        found = evaluate(as_predictions(labels, score))
        by_class = {name for name, metric in METRICS.items() if metric.by_class}
        assert {name for name, value in found.items() if value is None} == by_class
    empty = evaluate(as_predictions(np.zeros(0, int), np.zeros(0)))
    assert set(empty.values()) == {None}
    three = Predictions(np.arange(4), np.arange(4), np.array([0, 1, 0, 1]), np.eye(4, 3, dtype=np.float32))
    assert evaluate(three)["auc"] is None
    assert evaluate(three)["accuracy"] == 0.5
    assert not any(METRICS[name].binary for name in evaluate(three))
    assert np.isnan(METRICS["partial_auc"].function(three.labels, probabilities_of(three)))
    assert np.isnan(METRICS["accuracy"].function(three.labels, probabilities_of(three), np.zeros(4)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_diverged_network_has_no_score(bad: float) -> None:
    predictions = as_predictions(np.array([0, 1, 1]), np.array([0.0, 1.0, 2.0]))
    predictions.logits[1, 1] = bad
    assert set(evaluate(predictions).values()) == {None}
    assert np.isnan(resampled("accuracy", predictions, np.ones((2, 3)))).all()


@pytest.mark.parametrize("wrong", [-1, 2])
def test_a_label_beyond_the_classes_is_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match="allowed: 0 to 1"):
        evaluate(as_predictions(np.array([0, wrong]), np.zeros(2)))


def test_confident_networks_are_still_ordered_right() -> None:
    # Softmax in float64 is exactly 1 for all four; their logits differ.
    score = np.array([40.0, 60.0, 80.0, 100.0])
    found = evaluate(as_predictions(np.array([0, 0, 1, 1]), score))
    assert found["auc"] == 1
    assert found["log_loss"] == pytest.approx((40 + 60) / 4)
    huge = evaluate(as_predictions(np.array([0, 1]), np.array([4000.0, -4000.0])))
    assert huge["log_loss"] == pytest.approx(708.396, abs=0.01)


def test_exchanged_classes_exchange_sensitivity_and_specificity() -> None:
    labels, probabilities, _ = _set(2, seed=5)
    predictions = as_predictions(labels, np.log(probabilities[:, 1] / probabilities[:, 0]))
    turned = predictions._replace(labels=1 - labels, logits=predictions.logits[:, ::-1])
    first, second = evaluate(turned), evaluate(predictions)
    for name in ("auc", "accuracy", "balanced_accuracy", "log_loss", "brier", "ece"):
        assert first[name] == pytest.approx(second[name], abs=1e-9)
    assert first["sensitivity_at_specificity_90"] == second["specificity_at_sensitivity_90"]
    assert first["average_precision"] != pytest.approx(second["average_precision"], abs=1e-3)


def test_the_value_does_not_depend_on_the_order_of_images() -> None:
    labels, probabilities, weights = _set(2, ties=True, seed=8)
    shuffled = np.random.default_rng(0).permutation(len(labels))
    for metric in applicable(2):
        here = metric.function(labels, probabilities, weights)
        assert metric.function(labels[shuffled], probabilities[shuffled], weights[shuffled]) == pytest.approx(here, abs=1e-12)
