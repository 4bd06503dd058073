import numpy as np
import pytest

from benchmarks.alarms import coverage
from benchmarks.simulated import as_predictions, draw
from fteng.analysis.bootstrap import (
    depth_score,
    depth_scores,
    group_weights,
    informative_groups,
    interval,
    standard_error,
    zero_event_bound,
)
from fteng.analysis.metrics import METRICS, probabilities_of
from fteng.results import Predictions


def test_images_of_a_group_stay_together_and_every_resample_draws_as_many_groups() -> None:
    groups = np.array(["b", "a", "b", "c", "a", "b"])
    weights = group_weights(groups, 200, seed=1)
    assert weights.shape == (200, 6)
    assert (weights[:, groups == "b"] == weights[:, [0]]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert len(np.unique(weights, axis=0)) == 10  # every multiset of 3 from 3
    assert weights.mean(axis=0) == pytest.approx(np.ones(6), abs=0.15)
    assert (weights == group_weights(groups, 200, seed=1)).all()
    assert (weights != group_weights(groups, 200, seed=2)).any()


def test_with_one_image_a_group_it_is_the_bootstrap_of_images() -> None:
    n, rng = 40, np.random.default_rng(5)
    weights = group_weights(np.arange(n), 300, seed=5)
    assert (weights == rng.multinomial(n, np.full(n, 1 / n), size=300)).all()
    labels = np.arange(n) % 2
    predictions = as_predictions(labels, labels + np.random.default_rng(0).normal(size=n))
    found = depth_scores([predictions], "auc", weights)
    for row in (0, 7, 299):
        drawn = np.repeat(np.arange(n), weights[row])
        again = METRICS["auc"].function(labels[drawn], probabilities_of(predictions)[drawn])
        assert found[row] == pytest.approx(again, abs=1e-12)


def test_a_long_set_is_cut_into_chunks_without_a_trace() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 3000)
    predictions = as_predictions(labels, labels + rng.normal(size=3000))
    weights = group_weights(np.arange(3000) // 4, 100, seed=0)
    whole = METRICS["auc"].over(labels, probabilities_of(predictions), weights)
    assert depth_scores([predictions], "auc", weights) == pytest.approx(whole, abs=1e-15)


def test_a_depth_is_the_mean_over_seeds_and_undefined_if_one_seed_is() -> None:
    (depth,) = draw(np.random.default_rng(0), 50, [0.8], seeds=3, luck=0.3)
    weights = group_weights(depth[0].groups, 20, seed=0)
    singles = [depth_scores([seed], "log_loss", weights) for seed in depth]
    assert len({depth_score([seed], "log_loss") for seed in depth}) == 3
    assert depth_scores(depth, "log_loss", weights) == pytest.approx(np.mean(singles, axis=0))
    depth[1].logits[0, 0] = np.nan
    assert np.isnan(depth_score(depth, "log_loss"))
    assert interval(depth, "log_loss", weights, 0.95) == (None, None, None)


def test_the_groups_that_count_are_those_of_the_rarest_class() -> None:
    predictions = as_predictions(np.array([1, 1, 1, 0, 0, 0]), np.zeros(6), np.array([0, 0, 1, 2, 3, 4]))
    assert informative_groups(predictions, "auc") == 2
    assert informative_groups(predictions, "accuracy") == 5


def _classes(counts: list[int]) -> Predictions:
    """So many images of each class, each its own group, nine of ten classified right."""
    labels = np.repeat(np.arange(len(counts)), counts)
    answers = np.where(np.arange(len(labels)) % 10 == 0, (labels + 1) % len(counts), labels)
    names = np.arange(len(labels)).astype(str)
    return Predictions(names, names, labels, 3 * np.eye(len(counts), dtype=np.float32)[answers])


def test_with_many_classes_their_groups_add_up_unless_one_is_rare() -> None:
    assert informative_groups(_classes([12] * 10), "balanced_accuracy") == 10 * 11 + 1
    assert informative_groups(_classes([40] * 9 + [2]), "balanced_accuracy") == 3
    assert informative_groups(_classes([40] * 9 + [1]), "balanced_accuracy") == 1
    assert informative_groups(_classes([40] * 9 + [0]), "balanced_accuracy") == 0


def test_an_interval_stays_in_range_and_widens_with_confidence() -> None:
    (depth,) = draw(np.random.default_rng(3), 40, [0.97])
    weights = group_weights(depth[0].groups, 500, seed=0)
    for name in METRICS:
        narrow, wide = (interval(depth, name, weights, confidence) for confidence in (0.8, 0.99))
        ordered = np.array([0, wide.low, narrow.low, narrow.value, narrow.high, wide.high], dtype=float)
        assert (np.diff(ordered) >= 0).all(), name
        assert not METRICS[name].higher_is_better or ordered[-1] <= 1


def test_a_perfect_score_of_few_groups_is_no_certainty() -> None:
    labels = np.repeat([0, 1], 12)
    weights = group_weights(np.arange(24), 200, seed=0)
    found = interval([as_predictions(labels, labels - 0.5)], "auc", weights, 0.95)
    assert found.value == found.high == 1
    assert found.low == pytest.approx(0.025 ** (1 / 12))
    worst = interval([as_predictions(labels, 0.5 - labels)], "auc", weights, 0.95)
    assert (worst.value, worst.low, worst.high) == (0, 0, pytest.approx(1 - 0.025 ** (1 / 12)))


def test_resamples_of_few_groups_vary_too_little_and_that_is_made_good() -> None:
    draws = np.array([0.0, 2.0, 1.0])
    assert standard_error(draws, 2) == pytest.approx(np.sqrt(2))
    assert standard_error(draws, 10**6) == pytest.approx(1.0)


def test_no_interval_where_the_resamples_cannot_carry_one() -> None:
    score = np.random.default_rng(0).normal(size=30)
    # One malignant image: every third resample lacks it.
    lonely = as_predictions(np.arange(30) == 0, score)._replace(labels=(np.arange(30) == 0).astype(np.int64))
    found = interval([lonely], "auc", group_weights(lonely.groups, 300, seed=0), 0.95)
    assert found.value is not None
    assert (found.low, found.high) == (None, None)
    # All patients in one group: nothing to resample.
    one = as_predictions(np.arange(30) % 2, score, np.zeros(30, int))
    weights = group_weights(one.groups, 50, seed=0)
    assert (weights == 1).all()
    assert interval([one], "accuracy", weights, 0.95)[1:] == (None, None)
    assert np.isnan(standard_error(np.array([0.5, np.nan, 0.6, 0.7]), 10))


def test_zero_event_bound_is_the_rule_of_three() -> None:
    assert zero_event_bound(100, 0.05) == pytest.approx(0.0295, abs=1e-4)
    assert (1 - zero_event_bound(7, 0.05)) ** 7 == pytest.approx(0.05)


def test_intervals_cover_a_known_auc() -> None:
    # 200 draws: with a true coverage of 0.95, four standard deviations are 0.062.
    assert coverage(200, 120, 0.88, 300, seed=0) >= 0.888


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "auc"), [(120, 0.8), (120, 0.88), (120, 0.95), (250, 0.9)])
def test_intervals_cover_a_known_auc_in_93_to_97_percent_of_1000_draws(patients: int, auc: float) -> None:
    assert 0.93 <= coverage(1000, patients, auc, 1000, seed=1) <= 0.97


@pytest.mark.slow
def test_resampling_images_of_patients_would_cover_too_little() -> None:
    rng, covered = np.random.default_rng(0), np.zeros(2)
    for number in range(400):
        (depth,) = draw(rng, 120, [0.85])
        for kind, groups in enumerate((depth[0].groups, depth[0].ids)):
            found = interval([depth[0]._replace(groups=groups)], "auc", group_weights(groups, 400, seed=number), 0.95)
            assert found.low is not None
            assert found.high is not None
            covered[kind] += found.low <= 0.85 <= found.high
    of_patients, of_images = covered / 400
    assert of_images < of_patients - 0.01
