import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from fteng.analysis.margin import lower_bounds


def bounds(points: list[float], draws: np.ndarray, *, margin: float = 0.02, higher: bool = True) -> np.ndarray:
    """Against the first."""
    return lower_bounds(np.array(points), draws, 0, margin, 50, 0.95, higher_is_better=higher)


def resamples(points: list[float], spread: float) -> np.ndarray:
    """So many standard deviations around the points that both directions are alike."""
    normal = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    return np.array([point + spread * (normal if k else 0 * normal) for k, point in enumerate(points)])


def test_one_plan_in_the_middle_has_the_bound_of_students_t() -> None:
    # The best stands still, so the error is the plan's own; at 0.5 the logit is straight.
    (_, found) = bounds([0.52, 0.5], resamples([0.52, 0.5], 0.01))
    # In either direction: a one-sided 95 % of each alone.
    expected = -0.02 - 0.01 * np.sqrt(50 / 49) * stats.t.ppf(0.95, 49)
    assert found == pytest.approx(expected, rel=0.02)


def test_near_one_the_scale_is_the_logits() -> None:
    (_, found) = bounds([0.99, 0.98], resamples([0.99, 0.98], 0.004))
    step = 0.004 / (0.98 * 0.02) * np.sqrt(50 / 49) * stats.t.ppf(0.95, 49)
    assert found == pytest.approx(expit(logit(0.98) - step) - 0.99, rel=0.02)
    # Further down than on the plain scale.
    assert found < -0.01 - 0.004 * stats.t.ppf(0.95, 49)


def test_a_loss_is_compared_by_its_logarithm_and_worse_is_less() -> None:
    (_, found) = bounds([0.2, 0.22], resamples([0.2, 0.22], 0.02), higher=False)
    step = 0.02 / 0.22 * np.sqrt(50 / 49) * stats.t.ppf(0.95, 49)
    assert found == pytest.approx(0.2 - 0.22 * np.exp(step), rel=0.02)
    assert found < -0.02


@pytest.mark.parametrize(("points", "margin"), [([0.3, 0.2], 0.4), ([1.0, 0.9], 0.0), ([0.1, 0.0], 0.02)])
def test_where_the_scale_has_no_place_points_are_compared_as_they_are(points: list[float], margin: float) -> None:
    (_, found) = bounds(points, resamples(points, 0.01), margin=margin)
    assert found == pytest.approx(points[1] - points[0] - 0.01 * np.sqrt(50 / 49) * stats.t.ppf(0.95, 49), rel=0.02)


def test_more_plans_make_each_bound_lower_and_what_no_resample_moves_has_none() -> None:
    rng = np.random.default_rng(0)
    points = [0.9, 0.88, 0.88, 0.88, 0.9]
    draws = np.array(points)[:, None] + 0.01 * rng.normal(size=(5, 2000))
    draws[4] = draws[0]
    alone, together = bounds(points[:2], draws[:2])[1], bounds(points, draws)
    assert together[1] < alone < points[1] - points[0]
    assert np.isnan(together[[0, 4]]).all()
    # A resample that lacks a class says nothing.
    draws[:, :20] = np.nan
    assert np.isfinite(bounds(points, draws)[1:4]).all()
