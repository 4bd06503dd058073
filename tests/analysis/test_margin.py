import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from fteng.analysis.compare import Scores
from fteng.analysis.margin import lower_bounds


def bounds(points: list[float], draws: np.ndarray, *, margin: float = 0.02, higher: bool = True) -> np.ndarray:
    """Against the first; one seed each."""
    found = [Scores(point, of, np.array([point])) for point, of in zip(points, draws, strict=True)]
    return lower_bounds(found, 0, margin, 50, 0.95, higher_is_better=higher)


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


@pytest.mark.parametrize("higher", [True, False])
def test_where_both_move_the_error_is_that_of_their_difference_on_the_scale(higher: bool) -> None:
    points, margin, rng = [0.9, 0.85], 0.04, np.random.default_rng(0)
    points = points if higher else points[::-1]
    draws = np.array(points)[:, None] + rng.multivariate_normal([0, 0], [[4e-4, 2e-4], [2e-4, 9e-4]], size=200_000).T
    (_, found) = bounds(points, draws, margin=margin, higher=higher)
    best, own = points
    limit = best - margin if higher else best + margin
    a, b = (1 / (own * (1 - own)), 1 / (limit * (1 - limit))) if higher else (1 / own, 1 / limit)
    step = np.sqrt((a**2 * 9e-4 + b**2 * 4e-4 - 2 * a * b * 2e-4) * 50 / 49) * stats.t.ppf(0.95, 49)
    expected = expit(logit(own) - step) - best if higher else best - own * np.exp(step)
    assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("higher", [True, False])
def test_a_seed_that_ran_away_widens_the_others_by_its_luck_and_not_without_end(higher: bool) -> None:
    points = [0.98, 0.975, 0.8] if higher else [2e-4, 3e-4, 3.0]
    seeds = [[0.98, 0.98], [0.975, 0.975], [0.98, 0.62]] if higher else [[2e-4, 2e-4], [3e-4, 3e-4], [3e-4, 6.0]]
    draws = resamples(points, 0.001 * points[1])
    found = [Scores(point, of, np.array(each)) for point, of, each in zip(points, draws, seeds, strict=True)]
    lucky = lower_bounds(found, 0, 0.02, 50, 0.95, higher_is_better=higher)
    calm = lower_bounds([one._replace(seeds=np.full(2, one.point)) for one in found], 0, 0.02, 50, 0.95, higher_is_better=higher)
    assert np.isfinite(lucky[1:]).all()
    assert lucky[1] < calm[1]
    # Of a ratio or of odds, not of points that mean nothing there.
    assert lucky[1] > (-0.5 if higher else -0.1)


@pytest.mark.parametrize(("points", "margin"), [([0.3, 0.2], 0.4), ([1.0, 0.9], 0.0)])
def test_where_the_scale_has_no_place_for_the_limit_points_are_compared_as_they_are(points: list[float], margin: float) -> None:
    (_, found) = bounds(points, resamples(points, 0.01), margin=margin)
    assert found == pytest.approx(points[1] - points[0] - 0.01 * np.sqrt(50 / 49) * stats.t.ppf(0.95, 49), rel=0.02)


@pytest.mark.parametrize("points", [[0.5, 0.0], [1.0, 0.9], [1.0, 1.0]])
def test_scores_without_a_fault_or_of_faults_alone_have_a_bound(points: list[float]) -> None:
    draws = np.clip(resamples(points, 0.01), 0, 1)
    draws[0, ::7] -= 0.01
    (_, found) = bounds(points, draws)
    assert -1 <= found <= points[1] - points[0]


@pytest.mark.parametrize("seeds", [[0.9], [0.9, 0.9]])
def test_the_same_answers_are_no_proof(seeds: list[float]) -> None:
    draws = 0.9 + 0.01 * np.random.default_rng(0).normal(size=2000)
    draws[:5] = np.nan
    twins = [Scores(0.9, draws, np.array(seeds))] * 2
    assert np.isnan(lower_bounds(twins, 0, 0.02, 50, 0.95, higher_is_better=True)).all()


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
