"""Every score against its definition, worked out another way."""

import itertools

import numpy as np
import pytest
from scipy import optimize, stats

from fteng.similarity import leep, scores
from fteng.undefined import UndefinedError, stated


def problem(n=40, channels=6, classes=3, gap=1.5, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    labels[:classes] = range(classes)
    return rng.standard_normal((n, channels)) + gap * rng.standard_normal((classes, channels))[labels], labels


@pytest.mark.parametrize(("n", "channels"), [(25, 4), (60, 9)])
def test_logme_is_the_largest_evidence_that_an_optimiser_finds(n, channels):
    features, labels = problem(n, channels, classes=2, gap=0.5)
    best = []
    for label in range(2):
        y = (labels == label).astype(float)

        def loss(logs, y=y):
            covariance = features @ features.T * np.exp(-logs[0]) + np.eye(n) * np.exp(-logs[1])
            return -stats.multivariate_normal.logpdf(y, np.zeros(n), covariance)

        best.append(-min(optimize.minimize(loss, [start, 1.0], method="Nelder-Mead").fun for start in (0.0, 4.0)) / n)
    assert scores.logme(features, labels) == pytest.approx(np.mean(best), abs=1e-4)


def test_logme_with_fewer_images_than_channels_is_no_less_than_a_grid_finds():
    features, labels = problem(8, 12, classes=2, gap=0.3)
    best = []
    for label in range(2):
        y = (labels == label).astype(float)
        grid = itertools.product(np.logspace(-3, 3, 25), np.logspace(-1, 5, 25))
        covariances = (features @ features.T / alpha + np.eye(8) / beta for alpha, beta in grid)
        best.append(max(stats.multivariate_normal.logpdf(y, np.zeros(8), covariance) for covariance in covariances) / 8)
    assert np.mean(best) - 1e-4 < scores.logme(features, labels) < np.mean(best) + 0.05


def test_h_score_is_its_definition_with_the_covariance_of_scikit_learn():
    from sklearn.covariance import ledoit_wolf

    features, labels = problem()
    covariance, share = ledoit_wolf(features)
    centred = features - features.mean(axis=0)
    conditional = np.stack([centred[labels == label].mean(axis=0) for label in labels])
    expected = (1 - share) * np.trace(np.linalg.inv(covariance) @ np.cov(conditional.T, bias=True))
    assert scores.h_score(features, labels) == pytest.approx(expected)


def test_gbc_is_its_sum_over_pairs():
    features, labels = problem()
    rotation = np.linalg.svd(features - features.mean(axis=0))[2].T
    rotated = (features - features.mean(axis=0)) @ rotation
    expected = 0.0
    for i, j in itertools.permutations(range(3), 2):
        a, b = rotated[labels == i], rotated[labels == j]
        both = np.diag((a.var(axis=0) + b.var(axis=0)) / 2)
        gap = a.mean(axis=0) - b.mean(axis=0)
        determinants = np.prod(a.var(axis=0)) * np.prod(b.var(axis=0))
        distance = gap @ np.linalg.inv(both) @ gap / 8 + 0.5 * np.log(np.linalg.det(both) / np.sqrt(determinants))
        expected -= np.exp(-distance)
    assert scores.gbc(features, labels) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "channels"), [(40, 6), (9, 30)])
def test_transrate_is_its_log_determinants(n, channels):
    features, labels = problem(n, channels)
    z = features - features.mean(axis=0)

    def rate(rows):
        return 0.5 * np.linalg.slogdet(np.eye(channels) + rows.T @ rows / (len(rows) * 1e-4))[1]

    expected = rate(z) - sum((labels == label).mean() * rate(z[labels == label]) for label in range(3))
    assert scores.transrate(features, labels) == pytest.approx(expected)


def test_parc_is_the_rank_correlation_of_two_distance_matrices():
    features, labels = problem()
    pairs = np.tril_indices(len(labels), -1)
    # Rounded, or two correlations of 1 would not be equal.
    unlike = np.round(1 - np.asarray(np.corrcoef(np.eye(3)[labels]))[pairs], 9)
    expected = np.asarray(stats.spearmanr(1 - np.asarray(np.corrcoef(features))[pairs], unlike))[0]
    assert scores.parc(features, labels) == pytest.approx(100 * expected)


def test_leep_is_its_definition_image_by_image():
    rng = np.random.default_rng(0)
    theta, labels = rng.dirichlet(np.ones(4), 30), rng.integers(3, size=30)
    total = 0.0
    for i in range(30):
        likelihood = 0.0
        for z in range(4):
            joint = sum(theta[j, z] for j in range(30) if labels[j] == labels[i]) / 30
            likelihood += joint / (sum(theta[j, z] for j in range(30)) / 30) * theta[i, z]
        total += np.log(likelihood)
    assert leep.leep(theta, labels) == pytest.approx(total / 30)


def test_leep_of_source_classes_that_are_the_classes_is_zero_and_of_nothing_is_the_entropy():
    labels = np.array([0, 0, 1, 2])
    assert leep.leep(np.eye(3)[labels], labels) == pytest.approx(0)
    assert leep.leep(np.full((4, 5), 0.2), labels) == pytest.approx(np.log([0.5, 0.5, 0.25, 0.25]).mean())


def test_mixture_likelihood_is_that_of_scikit_learn():
    from sklearn.mixture import GaussianMixture

    features, labels = problem(120, 5, gap=8)
    ours = leep._mixture(features, 3)
    theirs = GaussianMixture(3, covariance_type="diag", random_state=0).fit(features).predict_proba(features)
    assert leep.leep(ours, labels) == pytest.approx(leep.leep(theirs, labels), abs=0.02)
    assert leep.nleep(features, labels) > -0.05


@pytest.mark.parametrize("score", [scores.logme, scores.h_score, scores.gbc, scores.transrate, scores.parc, leep.nleep])
class TestEveryScore:
    def test_prefers_classes_that_are_apart(self, score):
        near, labels = problem(90, 8, gap=0.1)
        far, _ = problem(90, 8, gap=4)
        assert score(far, labels) > score(near, labels)

    def test_is_defined_with_a_constant_channel_and_fewer_images_than_channels(self, score):
        features, labels = problem(30, 50)
        features[:, 3] = 7.0
        features[:, 4] = 0.0
        assert np.isfinite(score(features.astype(np.float32), labels))

    def test_says_why_it_is_undefined(self, score):
        features, labels = problem(12, 5)
        for hostile, names in (
            (np.ones_like(features), labels),
            (np.full_like(features, np.nan), labels),
            (features, np.zeros_like(labels)),
        ):
            with pytest.raises(UndefinedError):
                score(hostile, names)

    def test_with_one_image_a_class_is_a_number_or_says_why(self, score):
        features, _ = problem(6, 5)
        stated_ = stated(lambda: score(features, np.arange(6)))
        assert (stated_["value"] is None) == bool(stated_["reason"])


def test_features_that_give_a_class_exactly_have_no_bound_of_evidence():
    _, labels = problem()
    with pytest.raises(UndefinedError, match="no bound"):
        scores.logme(np.eye(3)[labels], labels)
