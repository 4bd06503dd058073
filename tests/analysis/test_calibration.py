import numpy as np
import pytest

from benchmarks.simulated import as_predictions
from fteng.analysis.calibration import apply_temperature, fit_temperature, reliability
from fteng.analysis.metrics import evaluate
from fteng.results import Predictions


def _calibrated(n: int, classes: int, seed: int = 0) -> Predictions:
    """Labels drawn from the softmax of the logits: the right temperature is 1."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(n, classes)).astype(np.float32)
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    names = np.arange(n).astype(str)
    return Predictions(names, names, labels, logits)


def _metrics(predictions: Predictions) -> dict[str, float]:
    return {name: value for name, value in evaluate(predictions).items() if value is not None}


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("known", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_recovered(known: float, classes: int) -> None:
    true = _calibrated(20_000, classes)
    found = fit_temperature(true._replace(logits=true.logits * np.float32(known)))
    assert found == pytest.approx(known, rel=0.04)


def test_scaling_mends_what_it_should_and_moves_nothing_else() -> None:
    true = _calibrated(4000, 2)
    sure = true._replace(logits=true.logits * 4)
    temperature = fit_temperature(sure)
    assert temperature is not None
    before, after = _metrics(sure), _metrics(apply_temperature(sure, temperature))
    assert after["ece"] < before["ece"] / 3
    assert after["log_loss"] < before["log_loss"]
    assert after["accuracy"] == before["accuracy"]
    assert after["auc"] == pytest.approx(before["auc"], abs=1e-6)
    # Nothing nearby is better: the minimum is the minimum.
    for factor in (0.95, 1.05):
        assert _metrics(apply_temperature(sure, temperature * factor))["log_loss"] > after["log_loss"]


def test_there_is_no_temperature_where_none_is_best() -> None:
    labels, score = np.array([0, 0, 1, 1]), np.array([-2.0, -1.0, 1.0, 2.0])
    assert fit_temperature(as_predictions(labels, score)) is None
    assert fit_temperature(as_predictions(labels, -score)) is None
    assert fit_temperature(as_predictions(labels[:0], score[:0])) is None
    assert fit_temperature(as_predictions(labels, np.array([np.nan, 0, 0, 0]))) is None
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="allowed: above 0"):
            apply_temperature(as_predictions(labels, score), bad)


def test_reliability_bins_add_up_to_the_ece() -> None:
    for classes in (2, 4):
        predictions = _calibrated(1000, classes, seed=2)
        bins = reliability(predictions)
        assert sum(found.images for found in bins) == 1000
        assert max(found.images for found in bins) - min(found.images for found in bins) <= 1
        gap = sum(n * abs(said - seen) for n, said, seen in bins if said is not None and seen is not None) / 1000
        assert gap == pytest.approx(evaluate(predictions)["ece"], abs=1e-12)


def test_a_constant_answer_fills_one_bin_and_the_others_say_none() -> None:
    bins = reliability(as_predictions(np.array([0, 1, 1, 1]), np.zeros(4)))
    assert bins == [*[(0, None, None)] * 7, (4, 0.5, 0.75), *[(0, None, None)] * 7]
