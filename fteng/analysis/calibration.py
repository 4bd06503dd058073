"""Whether probabilities mean what they say: temperature scaling, fitted on validation, and bins of a reliability diagram."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import root_scalar
from scipy.special import softmax

from fteng.analysis.metrics import BINS, calibration_pairs, equal_mass_bins, is_finite, probabilities_of, ratio
from fteng.results import Predictions


class Bin(NamedTuple):
    """images: how many; forecast: their mean probability; observed: the share in which it came true; None without images."""

    images: int
    forecast: float | None
    observed: float | None


def fit_temperature(predictions: Predictions) -> float | None:
    """The temperature T > 0 that minimises the log loss of softmax(logits / T) (Guo et al. 2017); None where there is none.

    T > 1: the network is too sure of itself. The loss is convex in 1 / T, so the one root of its slope is the best. There is
    none where every image is classified right (T would go to 0), where the logits of the true classes are no higher than the
    others (T would go to infinity), without images, or with a logit that is not finite. Fit on val, apply to test.
    """
    if not len(predictions.labels) or not is_finite(predictions):
        return None
    logits = predictions.logits.astype(np.float64)
    own = np.take_along_axis(logits, predictions.labels[:, None], axis=1)[:, 0]
    if (own >= logits.max(axis=1)).all() or own.mean() <= logits.mean():
        return None

    def slope(inverse: float) -> float:
        return float(((softmax(inverse * logits, axis=1) * logits).sum(axis=1) - own).mean())

    upper = 1.0
    while slope(upper) <= 0:
        upper *= 2
    return 1 / root_scalar(slope, bracket=(0.0, upper), xtol=1e-12).root


def apply_temperature(predictions: Predictions, temperature: float) -> Predictions:
    """The same predictions with logits / temperature; classes and their order stay as they are."""
    if not temperature > 0:
        raise ValueError(f"temperature: got {temperature}, allowed: above 0")
    return predictions._replace(logits=(predictions.logits / np.float32(temperature)).astype(np.float32))


def reliability(predictions: Predictions) -> list[Bin]:
    """Bins of equal mass, the ones of the metric `ece`, from the lowest forecast up.

    The forecast is the probability of class 1 with two classes, of the most likely class with more. Equal forecasts
    share a bin, so bins may differ in size, and with fewer distinct forecasts than bins some are empty.
    """
    forecast, outcome = calibration_pairs(predictions.labels, probabilities_of(predictions))
    cells = equal_mass_bins(forecast, np.ones((1, len(forecast))))[0]
    counts = np.bincount(cells, minlength=BINS)
    means = [ratio(np.bincount(cells, values, minlength=BINS), counts) for values in (forecast, outcome)]
    return [
        Bin(int(n), float(forecast), float(observed)) if n else Bin(0, None, None)
        for n, forecast, observed in zip(counts, *means, strict=True)
    ]
