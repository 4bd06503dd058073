import numpy as np
import pytest
from scipy import linalg
from sklearn.covariance import ledoit_wolf as sklearn_ledoit_wolf

from fteng.similarity import distances
from fteng.undefined import UndefinedError, stated


def drawn(n, channels, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, channels)) @ rng.standard_normal((channels, channels)) + rng.standard_normal(channels)


@pytest.mark.parametrize(("n", "channels"), [(40, 7), (9, 30)])
def test_shrunk_covariance_is_that_of_scikit_learn(n, channels):
    x = drawn(n, channels)
    expected, share = sklearn_ledoit_wolf(x)
    found, own_share = distances.ledoit_wolf(x)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert own_share == pytest.approx(share)


@pytest.mark.parametrize(("n", "channels"), [(60, 5), (8, 20)])
def test_frechet_is_the_formula_with_a_matrix_root(n, channels):
    first, second = drawn(n, channels), drawn(n + 3, channels, seed=1)
    (a, _), (b, _) = distances.ledoit_wolf(first), distances.ledoit_wolf(second)
    gap = first.mean(axis=0) - second.mean(axis=0)
    expected = gap @ gap + np.trace(a + b - 2 * np.real(linalg.sqrtm(a @ b)))
    assert distances.frechet(first, second) == pytest.approx(expected, rel=1e-6)


def test_frechet_of_a_shift_alone_is_the_shift_and_of_nothing_is_zero():
    x = drawn(200, 4)
    shift = np.array([3.0, 0, 0, 0])
    assert distances.frechet(x, x) == pytest.approx(0, abs=1e-6)
    assert distances.frechet(x, x + shift) == pytest.approx(9)
    # The pooled variance grows with the shift: by a quarter of its square.
    both = distances.common_directions(x, x + shift)
    assert both.var(axis=0).sum() == pytest.approx(1)
    assert distances.frechet(both[:200], both[200:]) == pytest.approx(9 / (x.var(axis=0).sum() + 9 / 4))


def test_diagonal_frechet_is_the_full_one_of_diagonal_covariances():
    mean, var = np.array([1.0, -2.0]), np.array([4.0, 0.5])
    other_mean, other_var = np.array([0.0, 1.0]), np.array([1.0, 2.0])
    units = np.sqrt(other_var)
    a, b = np.diag(var / other_var), np.eye(2)
    gap = (mean - other_mean) / units
    expected = gap @ gap + np.trace(a + b - 2 * np.real(linalg.sqrtm(a @ b)))
    assert distances.diagonal_frechet(mean, var, other_mean, other_var) == pytest.approx(expected / 2)


def test_mmd_is_the_sum_over_pairs_and_zero_on_average():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((9, 3))
    gram, side = distances.kernel(x), np.arange(9) < 4
    one = [gram[i, j] for i in range(4) for j in range(4) if i != j]
    other = [gram[i, j] for i in range(4, 9) for j in range(4, 9) if i != j]
    across = [gram[i, j] for i in range(4) for j in range(4, 9)]
    assert distances.mmd2(gram, side[None])[0] == pytest.approx(np.mean(one) + np.mean(other) - 2 * np.mean(across))
    width = np.median([np.sum((a - b) ** 2) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    assert gram[0, 1] == pytest.approx(np.exp(-np.sum((x[0] - x[1]) ** 2) / (2 * width)))
    draws = [distances.mmd2(distances.kernel(rng.standard_normal((20, 2))), (np.arange(20) < 8)[None])[0] for _ in range(400)]
    assert abs(np.mean(draws)) < 4 * np.std(draws) / 20


@pytest.mark.parametrize(("n", "channels"), [(50, 6), (6, 50)])
def test_cka_is_the_centred_gram_formula(n, channels):
    x, y = drawn(n, channels), drawn(n, 4, seed=2)
    centre = np.eye(n) - 1 / n
    k, h = centre @ x @ x.T @ centre, centre @ y @ y.T @ centre
    expected = np.trace(k @ h) / np.sqrt(np.trace(k @ k) * np.trace(h @ h))
    assert distances.linear_cka(x, y) == pytest.approx(expected)
    assert distances.linear_cka(x, 3 * x @ np.eye(channels)) == pytest.approx(1)


def test_debiased_cka_is_zero_for_what_is_unrelated_where_the_plain_one_is_not():
    rng = np.random.default_rng(0)
    plain, debiased = [], []
    for _ in range(60):
        x, y = rng.standard_normal((20, 200)), rng.standard_normal((20, 3))
        plain.append(distances.linear_cka(x, y))
        debiased.append(stated(lambda x=x, y=y: distances.debiased_cka(x @ x.T, y @ y.T))["value"] or 0.0)
    assert np.mean(plain) > 0.2
    assert abs(np.mean(debiased)) < 0.1


def test_hsic_is_the_sum_over_four_different_images():
    from itertools import permutations

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 2)), rng.standard_normal((6, 3))
    k, h = x @ x.T, y @ y.T
    terms = [k[i, j] * (h[i, j] + h[q, r] - 2 * h[i, q]) for i, j, q, r in permutations(range(6), 4)]
    assert distances._hsic(k, h) == pytest.approx(np.mean(terms))


def test_leading_directions_hold_what_a_full_decomposition_holds():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 200)) * np.logspace(0, -2, 200)
    x -= x.mean(axis=0)
    exact = np.linalg.svd(x, compute_uv=False)[:8]
    found = distances.leading(x, 8)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), exact, rtol=5e-3)


@pytest.mark.parametrize(
    "compute",
    [
        lambda: distances.linear_cka(np.ones((5, 2)), np.eye(5)),
        lambda: distances.kernel(np.ones((5, 2))),
        lambda: distances.mmd2(np.eye(4), np.array([[True, False, False, False]])),
        lambda: distances.debiased_cka(np.eye(3), np.eye(3)),
        lambda: distances.common_directions(np.ones((4, 3)), np.ones((4, 3))),
        lambda: distances.mean_shift(np.zeros(0), np.zeros(0), np.zeros(0)),
    ],
)
def test_what_has_no_meaning_says_why(compute):
    with pytest.raises(UndefinedError, match=r"\w+ \w+"):
        compute()
    assert stated(compute)["value"] is None
