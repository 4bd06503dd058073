import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from fteng.probe.logistic import _eigenbasis, fit
from fteng.probe.newton import Problem, minimise


def loss(features, labels, kernel, bias, strength):
    """Mean cross-entropy and penalty over standardised features, in float64."""
    std = features.std(axis=0)
    logits = features.astype(np.float64) @ kernel + bias
    logits -= logits.max(axis=1, keepdims=True)
    entropy = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    return entropy.mean() + strength / 2 * ((kernel * std[:, None]) ** 2).sum()


def test_as_good_as_scikit_learn():
    features, labels = load_digits(return_X_y=True)
    features, labels = features[:300].astype(np.float32), labels[:300]
    strengths = np.array([1e-3, 1e-1, 10.0])
    solution = fit(features, labels, 10, strengths)
    std = features.std(axis=0)
    standard = (features - features.mean(axis=0)) / np.where(std > 0, std, 1)
    for index, strength in enumerate(strengths):
        reference = LogisticRegression(C=1 / (strength * len(labels)), max_iter=5000, tol=1e-8).fit(standard, labels)
        kernel = np.where(std > 0, 1 / np.where(std > 0, std, 1), 0)[:, None] * reference.coef_.T
        bias = reference.intercept_ - features.mean(axis=0) @ kernel
        ours = loss(features, labels, solution.kernels[index], solution.biases[index], strength)
        assert ours <= loss(features, labels, kernel, bias, strength) * 1.01
    assert solution.gradient.max() <= 3e-4


def test_left_out_is_what_scikit_learn_says_of_images_it_has_not_seen():
    features, labels = load_digits(return_X_y=True)
    features, labels = features[:150].astype(np.float32), labels[:150]
    strengths, folds = np.array([1e-3, 1e-1, 1.0]), [np.arange(start, 150, 3) for start in range(3)]
    std = features.std(axis=0)
    standard = (features - features.mean(axis=0)) / np.where(std > 0, std, 1)
    for strength, ours in zip(strengths, fit(features, labels, 10, strengths, folds).left_out, strict=True):
        losses = []
        for fold in folds:
            seen = np.setdiff1d(np.arange(150), fold)
            model = LogisticRegression(C=1 / (strength * len(seen)), max_iter=5000, tol=1e-8).fit(standard[seen], labels[seen])
            losses.extend(-np.log(model.predict_proba(standard[fold])[np.arange(len(fold)), labels[fold]]))
        assert ours == pytest.approx(np.mean(losses), rel=3e-3)


def test_many_images_and_classes_beside_folds():
    """Where XLA:CPU (jaxlib 0.10.2) sums a product over classes wrongly, if one side of it is the same for all folds."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(9000, 6)).astype(np.float32)
    labels = (features @ rng.normal(size=(6, 7)) + rng.gumbel(size=(9000, 7))).argmax(axis=1)
    folds = [np.arange(start, 9000, 5) for start in range(5)]
    found = fit(features, labels, 7, np.array([1e-2]), folds)
    losses = []
    for fold in folds:
        seen = np.setdiff1d(np.arange(9000), fold)
        alone = fit(features[seen], labels[seen], 7, np.array([1e-2]))
        logits = features[fold].astype(np.float64) @ alone.kernels[0] + alone.biases[0]
        losses.extend(logsumexp(logits, axis=1) - logits[np.arange(len(fold)), labels[fold]])
    assert found.left_out[0] == pytest.approx(np.mean(losses), rel=1e-3)


def test_each_strength_is_as_if_it_were_alone():
    """However they are ordered: where each begins is not where it ends."""
    features, labels = load_digits(return_X_y=True)
    features, labels = features[:200].astype(np.float32), labels[:200]
    strengths = np.array([1e-3, 1e1, 1e-4, 1e-1])
    together = fit(features, labels, 10, strengths)
    for index, strength in enumerate(strengths):
        alone = fit(features, labels, 10, strengths[index : index + 1])
        one = loss(features, labels, together.kernels[index], together.biases[index], strength)
        assert one == pytest.approx(loss(features, labels, alone.kernels[0], alone.biases[0], strength), rel=0.03)


def test_a_step_that_leads_uphill_is_shortened():
    """A whole Newton step from a point where the classifier is certain and wrong would."""
    rows = jnp.asarray([[1.0, 1.0], [-1.0, 1.0], [2.0, 1.0]])
    problem = Problem(rows, jnp.asarray([0, 1, 1]), jnp.ones((1, 3)) / 3, jnp.asarray([2.0, 1.0]))
    start = jnp.asarray([[[40.0, 0.0]], [[-40.0, 0.0]]])
    far, near = (minimise(problem, jnp.float32(1e-2), one, 1e-4) for one in (start, jnp.zeros_like(start)))
    np.testing.assert_allclose(far.losses, near.losses, atol=1e-3)
    assert far.gradients[0] <= 1e-4


def test_without_folds_nothing_is_left_out():
    assert np.isnan(fit(np.eye(4, 2, dtype=np.float32), np.arange(4) % 2, 2, np.array([0.1, 1.0])).left_out).all()


@pytest.mark.parametrize("channels", [1, 3, 200])
def test_wide_narrow_and_degenerate(channels):
    """More channels than images, a constant channel and a twin channel give finite numbers."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, channels)).astype(np.float32)
    features[:, -1] = 7.0 if channels > 1 else features[:, -1]
    if channels > 2:
        features[:, 1] = features[:, 0]
    labels = (rng.normal(size=40) > 0).astype(int)
    solution = fit(features, labels, 2, np.array([1e-4, 1.0]))
    assert np.isfinite(solution.kernels).all()
    assert np.isfinite(solution.biases).all()
    if channels > 2:
        np.testing.assert_allclose(solution.kernels[:, 0], solution.kernels[:, 1], atol=1e-4)
        assert (solution.kernels[:, -1] == 0).all()


def test_all_constant_gives_the_class_shares():
    solution = fit(np.ones((8, 3), np.float32), np.array([0] * 6 + [1] * 2), 2, np.array([0.1]))
    shares = np.exp(solution.biases[0]) / np.exp(solution.biases[0]).sum()
    np.testing.assert_allclose(shares, [0.75, 0.25], atol=5e-3)


@pytest.mark.parametrize("shape", [(30, 80), (80, 30), (50, 50)])
def test_the_basis_is_that_of_the_second_moments(shape):
    """Of fewer images than channels it comes from the products of images."""
    standard = np.random.default_rng(0).normal(size=shape)
    standard[:, 1] = standard[:, 0]
    standard -= standard.mean(axis=0)
    spectrum, basis = _eigenbasis(standard)
    moments = standard.T @ standard / len(standard)
    assert len(spectrum) == np.linalg.matrix_rank(standard)
    np.testing.assert_allclose(basis.T @ basis, np.eye(len(spectrum)), atol=1e-10)
    np.testing.assert_allclose(moments @ basis, basis * spectrum, atol=1e-10)
