import json

import numpy as np
import pytest
from scipy.stats import kendalltau

from fteng.similarity.assess import FORMAT
from fteng.similarity.grade import Measurement, grade, kendall

STAGES = ["a", "b", "c", "d"]


def assessment(score=(0.1, 0.2, 0.3, 0.4), metric="accuracy"):
    def rows(values):
        return [
            {"stage": stage, "value": value, "reason": "" if value is not None else "constant"}
            for stage, value in zip(STAGES, values, strict=True)
        ]

    plan = {"tap": "d", "freeze_depth": 2, "tuned": True}
    ranking = [{"tap": "d", "freeze_depth": depth, "tuned": depth < 4, "predicted": 1 - 0.1 * abs(depth - 2)} for depth in range(5)]
    return {
        "format": FORMAT,
        "metric": metric,
        "stages": STAGES,
        "scores": [
            {"name": "logme", "label": "LogME", "rows": rows(score)},
            {"name": "rgn", "label": "RGN", "rows": rows((4.0, 3.0, 2.0, 1.0))},
        ],
        "profile": {
            "rows": [{"mean_shift": {"value": None}, "diagonal_frechet": {"value": value}} for value in (0.4, 0.3, 0.2, 0.1)]
        },
        "advice": {
            "ours": {"plan": plan, "ranking": ranking},
            "folklore": {"cell": "much and similar", "tap": "d", "freeze_depth": 0, "tuned": True},
            "probe": {"tap": "b", "freeze_depth": 2, "tuned": False},
        },
    }


def measured(values=(0.6, 0.7, 0.9, 0.8, 0.75), noise=0.0):
    rng = np.random.default_rng(0)
    rows = [
        Measurement(
            "d", depth, depth < 4, f"depth {depth}", value, value, value + noise * rng.standard_normal(300), 10.0 * (5 - depth)
        )
        for depth, value in enumerate(values)
    ]
    return [*rows, Measurement("b", 2, False, "classifier on b", 0.85, 0.95, 0.85 + noise * rng.standard_normal(300), 0.0)]


def named(rows, name):
    return next(row for row in rows if row["name"] == name)


def test_tau_is_that_of_scipy_with_ties():
    rng = np.random.default_rng(0)
    predicted, curves = rng.integers(0, 4, 8).astype(float), rng.integers(0, 4, (20, 8)).astype(float)
    np.testing.assert_allclose(
        kendall(predicted, curves), np.array([np.asarray(kendalltau(predicted, curve))[0] for curve in curves])
    )
    assert np.isnan(kendall(np.ones(4), rng.standard_normal((2, 4)))).all()


def test_each_score_is_ranked_against_the_measured_curve():
    found = grade(assessment(), measured(), 150.0)
    assert found["depths"] == [0, 1, 2, 3, 4]
    # Depth 0 hands on no stage: four depths, 0.7 0.9 0.8 0.75 against a rising score.
    logme = named(found["scores"], "logme")
    assert (logme["depths"], logme["best_depth"]) == (4, 4)
    assert logme["tau"] == pytest.approx(kendalltau([1, 2, 3, 4], [0.7, 0.9, 0.8, 0.75])[0])
    # Mean of the stages that train: 2.5, 2, 1.5, 1, none where nothing trains.
    rgn = named(found["scores"], "rgn")
    assert [row["value"] for row in rgn["by_depth"]] == [2.5, 2.0, 1.5, 1.0]
    assert rgn["tau"] == pytest.approx(kendalltau([4, 3, 2, 1], [0.6, 0.7, 0.9, 0.8])[0])
    ours = named(found["scores"], "ours")
    assert ours["tau"] == pytest.approx(kendalltau([0.8, 0.9, 1.0, 0.9, 0.8], [0.6, 0.7, 0.9, 0.8, 0.75])[0])
    shift = named(found["scores"], "mean_shift")
    assert shift["tau"] is None
    assert "0" in shift["reason"]


def test_an_interval_of_tau_widens_with_the_luck_of_the_test_images():
    still, shaken = (named(grade(assessment(), measured(noise=noise), 1.0)["scores"], "ours") for noise in (0.0, 0.2))
    assert still["low"] == pytest.approx(still["tau"]) == still["high"]
    assert shaken["low"] < still["tau"] <= 1


def test_regret_and_time_of_each_advice():
    found = grade(assessment(), measured(), 150.0)
    rows = {row["name"]: row for row in found["advice"]}
    assert rows["ours"]["regret"] == pytest.approx(0)
    assert rows["ours"]["exact"]
    assert rows["everything"]["regret"] == pytest.approx(30) == rows["folklore"]["regret"]
    assert rows["last"]["regret"] == pytest.approx(15)
    assert rows["probe"]["regret"] == pytest.approx(5)
    assert rows["random"]["regret"] == pytest.approx(100 * (0.9 - np.mean([0.6, 0.7, 0.9, 0.8, 0.75, 0.85])))
    # Without a recommendation the best of those that were trained.
    assert found["swept"]["label"] == "depth 2"
    recommended = grade(assessment(), measured(), 150.0, recommended="classifier on b")
    assert recommended["swept"]["label"] == "classifier on b"
    assert named(recommended["advice"], "ours")["against_sweep"] == pytest.approx(-5)
    assert rows["ours"]["seconds_saved"] == pytest.approx(150 - 30)
    assert rows["probe"]["seconds_saved"] == 150
    assert rows["mean_shift"]["regret"] is None
    json.dumps(found, allow_nan=False)


def test_an_advice_that_was_not_measured_goes_to_the_nearest_and_says_so():
    sparse = [row for row in measured() if row.freeze_depth in (0, 4)]
    row = named(grade(assessment(), sparse, 1.0)["advice"], "ours")
    assert not row["exact"]
    assert row["measured"]["freeze_depth"] == 0
    assert named(grade(assessment(), sparse, 1.0)["scores"], "ours")["tau"] is None


def test_where_lower_is_better_regret_is_still_a_loss():
    losses = tuple(1 - value for value in (0.6, 0.7, 0.9, 0.8, 0.75))
    rows = [row for row in measured(losses) if row.tap == "d"]
    found = grade(assessment(metric="log_loss"), rows, 1.0)
    assert named(found["advice"], "everything")["regret"] == pytest.approx(30)
    assert found["best"]["freeze_depth"] == 2


@pytest.mark.parametrize("score", [(None,) * 4, (1.0,) * 4])
def test_a_score_without_values_or_differences_has_a_reason_and_no_tau(score):
    row = named(grade(assessment(score), measured(), 1.0)["scores"], "logme")
    assert row["tau"] is None
    assert row["reason"]


def test_nothing_measured_has_a_reason():
    found = grade(assessment(), [], 0.0)
    assert found["scores"] == found["advice"] == []
    assert "no plan" in found["reason"]
