import numpy as np
import pytest

from benchmarks.alarms import within, wrong_verdicts
from benchmarks.simulated import as_predictions, candidate_at, study_of
from fteng.analysis.bootstrap import depth_score, group_weights
from fteng.analysis.recommend import Candidate, best_rate, recommend
from fteng.results import Predictions


def test_the_shallowest_that_is_not_worse_is_recommended() -> None:
    candidates, weights = study_of([0.9, 0.9, 0.9, 0.9, 0.6], 600, common=0.95)
    found = recommend(candidates, "auc", 0.03, 0.95, weights)
    verdicts = [row.verdict for row in found.comparisons]
    assert found.index == 3
    assert sorted(verdicts) == ["best", "not worse", "not worse", "not worse", "worse"]
    assert verdicts[found.best] == "best"
    assert "freeze depth 3 has 0." in found.reason
    assert "within the margin of 0.03" in found.reason
    # Of 400 draws none is as large as what is seen, and what is seen is one more (Davison and Hinkley 1997, section 4.2.5).
    assert found.comparisons[4].p == pytest.approx(1 / 401)
    assert [row.index for row in found.comparisons] == [0, 1, 2, 3, 4]
    for row in found.comparisons:
        assert max(row.low, row.bound) <= row.difference <= row.high
        assert (row.p < 0.05) == (row.high < 0)


def test_resamples_that_lack_a_class_count_for_neither_side() -> None:
    candidates, weights = study_of([0.9, 0.895, 0.6], 300)
    without = weights.copy()
    without[:30, candidates[0].val[0].labels == 1] = 0
    found, told = (recommend(candidates, "auc", 0.01, 0.95, one) for one in (without, weights[30:]))
    assert [row.p for row in found.comparisons] == pytest.approx([row.p for row in told.comparisons])
    assert found.comparisons[1].p > 0.05
    assert found.comparisons[2].p == pytest.approx(1 / 371)


def test_a_tiny_validation_set_shows_nothing_so_the_best_itself_is_recommended() -> None:
    candidates, weights = study_of([0.9, 0.9, 0.9, 0.9, 0.9], 10)
    found = recommend(candidates, "auc", 0.05, 0.95, weights)
    assert found.index == found.best == int(np.argmax([depth_score(one.val, "auc") for one in candidates]))
    assert {row.verdict for row in found.comparisons} == {"best", "unclear"}
    assert "nothing can be shown to be as good" in found.reason


@pytest.mark.parametrize(("groups", "verdict"), [(9, "unclear"), (10, "worse")])
def test_below_ten_groups_nothing_is_looked_at(groups: int, verdict: str) -> None:
    """Half of each group wrong, or a little more: hardly any spread, and far behind what is always right."""
    labels = np.tile([0, 1], 10 * groups)
    of = np.repeat(np.arange(groups), 20).astype(str)
    right = as_predictions(labels, labels - 0.5)._replace(groups=of)
    wrong = (np.arange(len(labels)) % 20 < 10) | (np.arange(len(labels)) % 60 == 11)
    half = as_predictions(labels, np.where(wrong, 0.5 - labels, labels - 0.5))._replace(groups=of)
    candidates = [candidate_at(0, [right]), candidate_at(1, [half])]
    found = recommend(candidates, "accuracy", 0.01, 0.95, group_weights(of, 400, seed=0))
    assert [row.verdict for row in found.comparisons] == ["best", verdict]


def test_among_perfect_depths_the_shallowest_is_the_best_even_on_few_images() -> None:
    labels = np.repeat([0, 1], 15)
    candidates = [candidate_at(depth, [as_predictions(labels, (labels - 0.5) * (depth + 1))]) for depth in range(5)]
    found = recommend(candidates, "auc", 0.01, 0.95, group_weights(np.arange(30), 200, seed=0))
    assert found.index == 4
    assert "nothing that trains less, or ends earlier, was tried" in found.reason
    # 15 groups a class without a fault do not show that there is at most one in a hundred.
    assert found.comparisons[0].bound == pytest.approx(-(1 - 0.05 ** (1 / 15)))
    assert found.comparisons[0].verdict == "unclear"


def test_equal_stages_are_decided_by_cost() -> None:
    labels = np.repeat([0, 1], 15)
    perfect = [as_predictions(labels, labels - 0.5)]
    candidates = [
        Candidate("last tap", "block3", 4, 0, 3.0, perfect, perfect),
        Candidate("early tap", "block1", 2, 0, 1.0, perfect, perfect),
        Candidate("early tap, tuned", "block1", 1, 1, 0.5, perfect, perfect),
    ]
    assert recommend(candidates, "auc", 0.01, 0.95, group_weights(np.arange(30), 100, seed=0)).index == 1


def test_a_loss_is_better_when_lower_and_the_margin_is_in_its_points() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 800)
    score = 2 * labels - 1 + 2 * rng.normal(size=800)
    candidates = [
        candidate_at(0, [as_predictions(labels, 0.5 * score)]),
        candidate_at(1, [as_predictions(labels, 0.55 * score)]),
        candidate_at(2, [as_predictions(labels, 3 * score)]),
    ]
    weights = group_weights(np.arange(800), 300, seed=0)
    found = recommend(candidates, "log_loss", 0.02, 0.95, weights)
    assert found.index == 1
    worse = found.comparisons[2]
    assert worse.verdict == "worse"
    assert worse.score > found.comparisons[0].score
    assert worse.low < worse.difference < worse.high < 0


def test_the_test_set_takes_no_part() -> None:
    candidates, weights = study_of([0.8, 0.85, 0.9, 0.7], 200)
    first = recommend(candidates, "auc", 0.02, 0.95, weights)
    turned = [one._replace(test=[seed._replace(labels=1 - seed.labels) for seed in one.test]) for one in candidates]
    assert recommend(turned, "auc", 0.02, 0.95, weights) == first


def test_the_order_of_candidates_does_not_matter() -> None:
    candidates, weights = study_of([0.8, 0.9, 0.9, 0.85], 200, seeds=2, luck=0.05)
    first = recommend(candidates, "auc", 0.02, 0.95, weights)
    second = recommend(candidates[::-1], "auc", 0.02, 0.95, weights)
    assert (first.index, first.best) == (3 - second.index, 3 - second.best)
    for one, other in zip(first.comparisons, second.comparisons[::-1], strict=True):
        assert one.difference == other.difference
        assert one.low == pytest.approx(other.low, abs=0.005)


def test_more_depths_make_every_claim_harder() -> None:
    candidates, weights = study_of([0.9, 0.88, 0.8, 0.8, 0.8], 200)
    few, many = (recommend(chosen, "auc", 0.02, 0.95, weights) for chosen in (candidates[:2], candidates))
    assert many.comparisons[1].bound < few.comparisons[1].bound
    assert many.comparisons[1].p > few.comparisons[1].p


def test_luck_in_training_widens_the_bounds_and_one_seed_is_pointed_out() -> None:
    one_seed, weights = study_of([0.9, 0.88, 0.85], 200)
    found = recommend(one_seed, "auc", 0.02, 0.95, weights)
    assert "One seed each" in found.reason
    spans = []
    for luck in (0.0, 0.6):
        candidates, weights = study_of([0.9, 0.88, 0.85], 200, seeds=3, luck=luck)
        found = recommend(candidates, "auc", 0.02, 0.95, weights)
        assert "One seed" not in found.reason
        spans.append(max(row.high - row.low for row in found.comparisons))
    assert spans[1] > 1.3 * spans[0]


def test_the_best_rate_is_by_mean_over_seeds_and_a_rate_with_a_diverged_seed_does_not_compete() -> None:
    labels = np.arange(40) % 2
    rng = np.random.default_rng(0)

    def seeds(*skills: float) -> list[Predictions]:
        return [as_predictions(labels, skill * (labels - 0.5) + rng.normal(size=40)) for skill in skills]

    lucky, steady, diverging = seeds(9, 0), seeds(6, 6), seeds(9, 9)
    diverging[1].logits[3] = np.nan
    rates = {1e-2: lucky, 1e-3: steady, 1e-1: diverging}
    assert best_rate(rates, "auc") == 1e-3
    assert best_rate({1e-2: lucky, 1e-1: diverging}, "auc") == 1e-2
    assert best_rate({1e-1: diverging}, "auc") == 1e-1
    assert best_rate({1e-2: steady, 1e-3: steady}, "log_loss") == 1e-3
    assert best_rate({1e-1: diverging[1:]}, "auc") is None
    assert best_rate({}, "auc") is None


def test_diverged_seeds_are_named_and_the_others_go_on() -> None:
    candidates, weights = study_of([0.9, 0.8, 0.7], 40, seeds=2, luck=0.1)
    candidates[0].val[1].logits[0] = np.inf
    for seed in candidates[2].val:
        seed.logits[0] = np.nan
    found = recommend(candidates, "auc", 0.02, 0.95, weights)
    assert (found.index, found.best) == (0, 0)
    assert found.comparisons[1].p < 1
    assert found.comparisons[2].verdict == "unclear"
    assert found.comparisons[0].score == depth_score(candidates[0].val[:1], "auc")
    assert np.isnan(found.comparisons[2].difference)
    assert found.excluded == ("freeze depth 0 (1 of 2 seeds diverged)", "freeze depth 2 (2 of 2 seeds diverged)")
    assert found.reason.endswith(f"Left out: {'; '.join(found.excluded)}.")


def test_without_a_score_there_is_nothing_to_recommend() -> None:
    candidate = candidate_at(0, [as_predictions(np.ones(20, int), np.arange(20.0))])
    weights = group_weights(np.arange(20), 100, seed=0)
    for candidates in ([], [candidate], [candidate._replace(val=[])]):
        with pytest.raises(ValueError, match="no candidate has a defined auc"):
            recommend(candidates, "auc", 0.01, 0.95, weights)
    assert recommend([candidate], "accuracy", 0.01, 0.95, weights).index == 0


def test_a_validation_set_in_one_group_recommends_the_best() -> None:
    candidates, _ = study_of([0.9, 0.7], 40)
    lumped = [one._replace(val=[seed._replace(groups=np.full_like(seed.groups, "p")) for seed in one.val]) for one in candidates]
    found = recommend(lumped, "auc", 0.02, 0.95, group_weights(lumped[0].val[0].groups, 50, seed=0))
    assert found.index == 0
    assert np.isnan(found.comparisons[1].p)


def test_depths_of_other_images_are_refused() -> None:
    candidates, weights = study_of([0.9, 0.8], 40)
    other = [seed._replace(ids=seed.ids[::-1]) for seed in candidates[1].val]
    with pytest.raises(ValueError, match="same ids"):
        recommend([candidates[0], candidates[1]._replace(val=other)], "auc", 0.02, 0.95, weights)


def test_the_rule_is_seldom_wrong() -> None:
    # 40 draws at a true rate of 0.05: more than six happen once in 300 times.
    passed, alarms = wrong_verdicts(40, 150, 0.92, seed=0)
    assert passed <= 6 / 40
    assert alarms <= 6 / 40


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "auc"), [(150, 0.97), (300, 0.92), (300, 0.75)])
def test_the_rule_is_wrong_in_at_most_5_percent(patients: int, auc: float) -> None:
    passed, alarms = wrong_verdicts(400, patients, auc, seed=1000)
    assert max(passed, alarms) <= within(400)
