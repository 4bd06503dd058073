"""Metrics over a whole set of images, never averaged over batches; undefined is nan here and None in a record, never 0.

Every metric is computed for many weightings of the images at once, because that is what a bootstrap asks for: an image drawn
twice has weight 2. The plain value is the case of one weighting, of ones.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from fteng.analysis.curve import Curve, trace
from fteng.results import Predictions

Over = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
# Of equal mass, for the calibration error and its diagram.
BINS = 15
# The smallest normal float64: a certain and wrong answer costs 708 nats, not infinity.
_TINY = np.finfo(np.float64).tiny
# Weights handled at a time: the running sums of a chunk then stay in the processor's cache.
_CHUNK = 1 << 17


class Metric(NamedTuple):
    """One metric.

    name: key in records; label: for people; higher_is_better: the direction; over: (labels (n,), probabilities (n, c),
    weights (r, n)) -> (r,), nan = undefined; by_class: every class weighs the same, so the rarest class limits how sure one
    can be; binary: only for two classes, class 1 being the positive one.
    """

    name: str
    label: str
    higher_is_better: bool
    over: Over
    by_class: bool
    binary: bool = False

    def function(self, labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> float:
        """labels (n,) int, probabilities (n, c), weights (n,) >= 0 or None (all one) -> the value, nan where undefined."""
        row = np.ones(len(labels)) if weights is None else np.asarray(weights)
        return float(self.over(labels, probabilities, row[None])[0])


def probabilities_of(predictions: Predictions) -> np.ndarray:
    """Softmax of the logits, (n, c) float64."""
    return softmax(predictions.logits.astype(np.float64), axis=1)


def is_finite(predictions: Predictions) -> bool:
    """Whether every logit is a number; a diverged network's are not."""
    return bool(np.isfinite(predictions.logits).all())


def applicable(classes: int) -> list[Metric]:
    """The metrics that have a meaning for so many classes, in the order of METRICS."""
    return [metric for metric in METRICS.values() if classes == 2 or not metric.binary]


def resampled(metric: str, predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """The metric under each of weights (r, n): (r,) float64, nan = undefined; all nan where a logit is not finite.

    Memory: a few copies of 131,072 weights, or of one row where that is longer.
    """
    _check_labels(predictions)
    if not is_finite(predictions):
        return np.full(len(weights), np.nan)
    probabilities = probabilities_of(predictions)
    step = max(1, _CHUNK // max(len(predictions.labels), 1))
    parts = [
        METRICS[metric].over(predictions.labels, probabilities, weights[start : start + step])
        for start in range(0, len(weights), step)
    ]
    return np.concatenate(parts)


def evaluate(predictions: Predictions) -> dict[str, float | None]:
    """Every applicable metric of one set by name; None = undefined (a class has no image, a logit is not finite, no image at
    all)."""
    ones = np.ones((1, len(predictions.labels)))
    values = {
        metric.name: float(resampled(metric.name, predictions, ones)[0]) for metric in applicable(predictions.logits.shape[1])
    }
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def _check_labels(predictions: Predictions) -> None:
    labels, classes = predictions.labels, predictions.logits.shape[1]
    if ((labels < 0) | (labels >= classes)).any():
        raise ValueError(f"labels: got {labels.min()} to {labels.max()}, allowed: 0 to {classes - 1}")


def ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top / bottom, nan where bottom is 0; any shapes that broadcast."""
    top, bottom = np.broadcast_arrays(np.asarray(top, np.float64), np.asarray(bottom, np.float64))
    return np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means of values (n,) under weights (r, n): (r,)."""
    weights = weights.astype(np.float64)
    return ratio(weights @ values, weights.sum(axis=1))


def _accuracy(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _mean((probabilities.argmax(axis=1) == labels).astype(np.float64), weights)


def _balanced_accuracy(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    recalls = [_mean(right[labels == k], weights[:, labels == k]) for k in range(probabilities.shape[1])]
    return np.mean(recalls, axis=0)


def _log_loss(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    return _mean(-np.log(np.maximum(own, _TINY)), weights)


def _brier(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    squares = ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1)
    return _mean(squares / 2 if probabilities.shape[1] == 2 else squares, weights)


def calibration_pairs(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is forecast and whether it came true, each (n,): of class 1 with two classes, of the most likely class with more."""
    if probabilities.shape[1] == 2:
        return probabilities[:, 1], (labels == 1).astype(np.float64)
    return probabilities.max(axis=1), (probabilities.argmax(axis=1) == labels).astype(np.float64)


def equal_mass_bins(forecast: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The bin of each image under each of weights (r, n): (r, n) int; equal weight a bin, equal forecasts (n,) in one bin."""
    _, inverse = np.unique(forecast, return_inverse=True)
    distinct = int(inverse.max(initial=-1)) + 1
    cells = inverse + distinct * np.arange(len(weights))[:, None]
    mass = np.bincount(cells.ravel(), weights.astype(np.float64).ravel(), minlength=distinct * len(weights))
    mass = mass.reshape(len(weights), distinct)
    middle = ratio(mass.cumsum(axis=1) - mass / 2, mass.sum(axis=1, keepdims=True))
    return np.clip(np.nan_to_num(middle * BINS), 0, BINS - 1).astype(np.int64)[:, inverse]


def _ece(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    forecast, outcome = calibration_pairs(labels, probabilities)
    weights = weights.astype(np.float64)
    cells = equal_mass_bins(forecast, weights) + BINS * np.arange(len(weights))[:, None]
    gaps = np.bincount(cells.ravel(), (weights * (forecast - outcome)).ravel(), minlength=BINS * len(weights))
    return ratio(np.abs(gaps.reshape(-1, BINS)).sum(axis=1), weights.sum(axis=1))


def _by_curve(measure: Callable[[Curve], np.ndarray]) -> Over:
    """The measure of class 1's curve with two classes; with more, the mean over classes, each against the rest."""

    def over(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
        classes = range(probabilities.shape[1]) if probabilities.shape[1] != 2 else [1]
        return np.mean([measure(trace(labels, probabilities, weights, k)) for k in classes], axis=0)

    return over


def _only_binary(measure: Callable[[Curve], np.ndarray]) -> Over:
    def over(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
        if probabilities.shape[1] != 2:
            return np.full(len(weights), np.nan)
        return measure(trace(labels, probabilities, weights, 1))

    return over


def _auc(curve: Curve) -> np.ndarray:
    true, false = curve
    area = np.einsum("tr,tr->r", false[1:] - false[:-1], true[1:] + true[:-1]) / 2
    return ratio(area, true[-1] * false[-1])


def _average_precision(curve: Curve) -> np.ndarray:
    true, false = curve
    precision = np.nan_to_num(ratio(true[1:], true[1:] + false[1:]))
    found = ratio(((true[1:] - true[:-1]) * precision).sum(axis=0), true[-1])
    return np.where(false[-1] > 0, found, np.nan)


def _sensitivity_at(specificity: float) -> Callable[[Curve], np.ndarray]:
    def measure(curve: Curve) -> np.ndarray:
        allowed = ratio(curve.false[-1] - curve.false, curve.false[-1]) >= specificity
        best = np.where(allowed, curve.true, 0).max(axis=0)
        return np.where(curve.false[-1] > 0, ratio(best, curve.true[-1]), np.nan)

    return measure


def _specificity_at(sensitivity: float) -> Callable[[Curve], np.ndarray]:
    def measure(curve: Curve) -> np.ndarray:
        reached = ratio(curve.true, curve.true[-1]) >= sensitivity
        best = np.where(reached, curve.false[-1] - curve.false, 0).max(axis=0)
        return np.where(curve.true[-1] > 0, ratio(best, curve.false[-1]), np.nan)

    return measure


def _partial_auc(curve: Curve) -> np.ndarray:
    """Area under the ROC curve from where it reaches 80 % sensitivity to the right edge, down to the axis: at most 1."""
    true, false = ratio(curve.true, curve.true[-1]), ratio(curve.false, curve.false[-1])
    low, high, left, right = true[:-1], true[1:], false[:-1], false[1:]
    # Of each segment the part above the line: one that crosses it is cut there, one below it counts nothing.
    cut = np.clip(np.nan_to_num(ratio(0.8 - low, high - low)), 0, 1)
    start, foot = left + cut * (right - left), low + cut * (high - low)
    area = np.where(high >= 0.8, (right - start) * (high + foot) / 2, 0).sum(axis=0)
    return np.where((curve.true[-1] > 0) & (curve.false[-1] > 0), area, np.nan)


def _operating_points() -> list[Metric]:
    points = []
    for level in (80, 90, 95):
        sensitivity, specificity = _only_binary(_sensitivity_at(level / 100)), _only_binary(_specificity_at(level / 100))
        name, label = f"sensitivity_at_specificity_{level}", f"sensitivity at {level} % specificity"
        points.append(Metric(name, label, True, sensitivity, by_class=True, binary=True))
        name, label = f"specificity_at_sensitivity_{level}", f"specificity at {level} % sensitivity"
        points.append(Metric(name, label, True, specificity, by_class=True, binary=True))
    return points


# AUC and average precision follow scikit-learn with ties; macro one-vs-rest for more than two classes, undefined where a class
# has no image. Brier 1950: summed over classes, halved for two. ECE: Guo et al. 2017 with the equal-mass bins of Nixon et al.
# 2019. Sensitivity at a specificity: of the best threshold that keeps it, no interpolation. Partial AUC: as
# isic-challenge-scoring has it; that of the ISIC 2024 challenge is this minus 0.8 times the width of the area.
METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in [
        Metric("accuracy", "accuracy", True, _accuracy, by_class=False),
        Metric("balanced_accuracy", "balanced accuracy", True, _balanced_accuracy, by_class=True),
        Metric("auc", "ROC-AUC", True, _by_curve(_auc), by_class=True),
        Metric("log_loss", "log loss", False, _log_loss, by_class=False),
        Metric("average_precision", "average precision", True, _by_curve(_average_precision), by_class=True),
        Metric("brier", "Brier score", False, _brier, by_class=False),
        Metric("ece", "expected calibration error", False, _ece, by_class=False),
        *_operating_points(),
        Metric("partial_auc", "partial ROC-AUC above 80 % sensitivity", True, _only_binary(_partial_auc), True, True),
    ]
}


def deciding_metric(asked: str, classes: int) -> str:
    """The metric of `judge.metric`: what was asked for; `auto` is auc for two classes, else balanced_accuracy."""
    return asked if asked != "auto" else "auc" if classes == 2 else "balanced_accuracy"
