import numpy as np
import pytest
from scipy import stats

from benchmarks.simulated import as_predictions, draw
from fteng.analysis.bootstrap import group_weights
from fteng.analysis.compare import Scores, delong, every_pair, holm, training_luck
from tests.analysis.paired import paired


def test_holm_on_a_worked_example() -> None:
    # Sorted 0.005 0.01 0.03 0.04, times 4 3 2 1, never falling.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    undefined = holm([0.02, float("nan"), 0.01])
    assert undefined[::2] == pytest.approx([0.02, 0.02])
    assert np.isnan(undefined[1])


def _two_scores() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    labels = (rng.random(60) < 0.4).astype(int)
    first = np.round(labels * 1.2 + rng.normal(size=60), 1)
    return labels, first, np.round(labels * 0.5 + 0.5 * first + rng.normal(size=60), 1)


def test_delong_agrees_with_other_code() -> None:
    # MLstatkit 0.1.91, Delong_test, on the same 60 images (half of the scores tied).
    found = delong(*_two_scores())
    assert found.p == pytest.approx(0.7751595869108234, abs=1e-12)
    assert found.difference == pytest.approx(0.7725714285714285 - 0.7531428571428571, abs=1e-12)
    error = (found.high - found.low) / 2 / stats.norm.ppf(0.975)
    assert error**2 == pytest.approx(0.0046266474589835935, abs=1e-12)


def test_delong_is_the_formula_of_the_paper() -> None:
    labels, first, second = _two_scores()
    above, below = [], []
    for score in (first, second):
        x, y = score[labels == 1][:, None], score[labels == 0][None]
        kernel = (x > y) + (x == y) / 2
        above.append(kernel.mean(axis=1))
        below.append(kernel.mean(axis=0))
    s10, s01 = np.cov(above), np.cov(below)
    contrast = np.array([1, -1])
    variance = contrast @ (s10 / len(above[0]) + s01 / len(below[0])) @ contrast
    found = delong(labels, first, second)
    assert ((found.high - found.low) / 2 / stats.norm.ppf(0.975)) ** 2 == pytest.approx(variance, abs=1e-12)


def test_delong_without_a_class_or_a_difference() -> None:
    score = np.arange(4.0)
    assert np.isnan(delong(np.array([0, 0, 0, 1]), score, score)).all()
    assert delong(np.array([0, 0, 1, 1]), score, score) == (0, 0, 0, 1)


def test_the_paired_bootstrap_agrees_with_delong_where_each_image_is_a_group() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(400) < 0.4).astype(int)
    shared = labels + rng.normal(size=400)
    first, second = shared + 0.5 * rng.normal(size=400), shared + 1.0 * rng.normal(size=400)
    one, other = as_predictions(labels, first), as_predictions(labels, second)
    found = paired([one], [other], "auc", group_weights(one.groups, 4000, seed=0), 0.95)
    check = delong(labels, first, second)
    assert found.difference == pytest.approx(check.difference, abs=1e-6)
    assert found.high - found.low == pytest.approx(check.high - check.low, rel=0.06)
    assert found.p == pytest.approx(check.p, rel=0.5)


def test_the_test_and_the_interval_say_the_same_and_turn_with_the_order() -> None:
    for number in range(20):
        one, other = draw(np.random.default_rng(number), 60, [0.8, 0.9])
        weights = group_weights(one[0].groups, 300, seed=0)
        found, turned = paired(one, other, "auc", weights, 0.9), paired(other, one, "auc", weights, 0.9)
        assert (found.p < 0.1) == (not found.low <= 0 <= found.high)
        assert turned == pytest.approx((-found.difference, -found.high, -found.low, found.p))


def test_luck_in_training_widens_the_interval() -> None:
    weights = None
    spans = []
    for luck in (0.0, 1.0):
        one, other = draw(np.random.default_rng(1), 100, [0.85, 0.85], seeds=3, luck=luck)
        weights = group_weights(one[0].groups, 300, seed=0) if weights is None else weights
        found = paired(one, other, "auc", weights, 0.95)
        spans.append(found.high - found.low)
    assert spans[1] > 1.3 * spans[0]
    depths = [Scores(0.0, np.zeros(1), np.array(seeds)) for seeds in ([1.0, 3.0], [5.0], [0.0, 0.0, 3.0])]
    assert training_luck(depths) == pytest.approx((2 + 6) / 3)
    assert np.isnan(training_luck(depths[1:2]))


def test_equal_answers_are_no_difference_and_other_images_are_refused() -> None:
    one, other = draw(np.random.default_rng(0), 30, [0.8, 0.9])
    weights = group_weights(one[0].groups, 100, seed=0)
    assert paired(one, one, "auc", weights, 0.95) == (0, 0, 0, 1)
    for field in ("ids", "groups", "labels"):
        moved = [other[0]._replace(**{field: getattr(other[0], field)[::-1]})]
        with pytest.raises(ValueError, match=f"same {field}"):
            paired(one, moved, "auc", weights, 0.95)


def test_every_pair_is_there_once_with_its_corrected_p() -> None:
    one, two, three = draw(np.random.default_rng(0), 80, [0.7, 0.9, 0.95])
    weights = group_weights(one[0].groups, 300, seed=0)
    rows = every_pair([one, two, three], "auc", weights, 0.95)
    assert [(row["first"], row["second"]) for row in rows] == [(0, 1), (0, 2), (1, 2)]
    for row, couple in zip(rows, [(one, two), (one, three), (two, three)], strict=True):
        # One seed each: no luck is pooled, and a pair in the table is a pair alone.
        assert tuple(row.values())[2:6] == pytest.approx(paired(*couple, "auc", weights, 0.95))
    assert [row["p_holm"] for row in rows] == pytest.approx(holm([row["p"] for row in rows]))
    assert every_pair([one], "auc", weights, 0.95) == []
    two[0].logits[0] = np.nan
    rows = every_pair([one, two, three], "auc", weights, 0.95)
    assert [row["p"] is None for row in rows] == [True, False, True]
    assert rows[1]["p_holm"] == rows[1]["p"]


def _false_alarms(draws: int, patients: int, resamples: int, seed: int) -> float:
    rng, alarms = np.random.default_rng(seed), 0
    for number in range(draws):
        one, other = draw(rng, patients, [0.88, 0.88])
        alarms += paired(one, other, "auc", group_weights(one[0].groups, resamples, seed=number), 0.95).p < 0.05
    return alarms / draws


def test_two_equal_depths_are_seldom_told_apart() -> None:
    # 200 draws: with a true rate of 0.05, three standard deviations are 0.046.
    assert _false_alarms(200, 120, 300, seed=0) <= 0.096


@pytest.mark.slow
def test_false_alarms_between_equal_depths_are_at_most_5_percent() -> None:
    # One-sided tolerance of 2000 draws at 0.05: 1.64 standard deviations are 0.008.
    assert _false_alarms(2000, 120, 500, seed=2) <= 0.058


def test_a_real_difference_is_found() -> None:
    found = 0
    for number in range(30):
        one, other = draw(np.random.default_rng(number), 150, [0.93, 0.8])
        found += paired(one, other, "auc", group_weights(one[0].groups, 200, seed=0), 0.95).p < 0.05
    assert found >= 27


def test_a_difference_that_no_resample_moves_has_no_p_of_one() -> None:
    labels = np.repeat([0, 1], 12)
    right, wrong = as_predictions(labels, labels - 0.5), as_predictions(labels, 0.5 - labels)
    found = paired([right], [wrong], "auc", group_weights(right.groups, 200, seed=0), 0.95)
    assert found.difference == 1
    assert np.isnan(found[1:]).all()
    check = delong(labels, labels - 0.5, 0.5 - labels)
    assert check.difference == 1
    assert np.isnan(check[1:]).all()
