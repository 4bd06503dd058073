"""Distances between two sets of features, from moments a channel or from the images' own features."""

import numpy as np
from jaxtyping import Float, Shaped

from fteng.similarity.rows import alive
from fteng.undefined import UndefinedError

Vector = Float[np.ndarray, "c"]
Samples = Shaped[np.ndarray, "_ c"]
# A full covariance is compared in so many leading directions of both sets together.
FRECHET_DIRECTIONS = 128


def mean_shift(mean: Vector, source_mean: Vector, source_var: Vector) -> float:
    """Mean over channels of |mean - source mean| in standard deviations of the source. No channel: UndefinedError."""
    _needs_channels(mean)
    return float(np.mean(np.abs(mean - source_mean) / np.sqrt(source_var)))


def log_variance_ratio(var: Vector, source_var: Vector) -> float:
    """Mean over channels of |ln(variance / source variance)|. No channel: UndefinedError."""
    _needs_channels(var)
    return float(np.mean(np.abs(np.log(var / source_var))))


def diagonal_frechet(mean: Vector, var: Vector, source_mean: Vector, source_var: Vector) -> float:
    """Squared Frechet distance of two normal distributions with independent channels, in variances of the source.

    Sum over channels of (difference of means)^2 + (difference of standard deviations)^2 (Dowson and Landau 1982), each channel
    divided by the source variance so that no channel decides by its unit, and averaged so that wide stages compare with narrow.
    """
    _needs_channels(mean)
    squares = (mean - source_mean) ** 2 + (np.sqrt(var) - np.sqrt(source_var)) ** 2
    return float(np.mean(squares / source_var))


def ledoit_wolf(features: Samples) -> tuple[Float[np.ndarray, "c c"], float]:
    """The covariance of (n, c) features shrunk towards a multiple of the identity, and the share of that (Ledoit, Wolf 2004)."""
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    n, channels = centred.shape
    covariance = centred.T @ centred / n
    scale = float(np.trace(covariance)) / channels
    norm = float((covariance**2).sum())
    spread = float((centred**2).sum(axis=1) @ (centred**2).sum(axis=1)) / n - norm
    distance = norm - channels * scale**2
    # All directions alike: the estimate is its own target.
    share = 1.0 if distance <= 1e-14 * norm else min(1.0, max(0.0, spread / n) / distance)
    shrunk = (1 - share) * covariance
    shrunk[np.diag_indices(channels)] += share * scale
    return shrunk, share


def common_directions(first: Samples, second: Samples) -> Float[np.ndarray, "_ k"]:
    """Both sets in their 128 leading directions together, first on top, in units of the root mean variance of all channels."""
    both = np.concatenate([first, second]).astype(np.float64)
    both = both[:, alive(both)]
    if min(len(first), len(second)) < 2 or not both.shape[1]:
        raise UndefinedError("needs two images on each side and a channel that varies")
    both -= both.mean(axis=0)
    return leading(both, FRECHET_DIRECTIONS) / np.sqrt((both**2).mean() * both.shape[1])


def frechet(first: Samples, second: Samples) -> float:
    """Squared Frechet distance with full covariances, each shrunk (see `ledoit_wolf`), so that it exists with n < c too.

    |difference of means|^2 + tr(A + B - 2 (A B)^(1/2)) (Dowson and Landau 1982). In the units of `common_directions` all variance
    of both sets together is 1.
    """
    a, _ = ledoit_wolf(first)
    b, _ = ledoit_wolf(second)
    values, basis = np.linalg.eigh(a)
    root = basis * np.sqrt(np.maximum(values, 0)) @ basis.T
    # tr (A B)^(1/2) = tr (A^(1/2) B A^(1/2))^(1/2), whose eigenvalues are real.
    product = np.linalg.eigvalsh(root @ b @ root)
    gap = first.mean(axis=0, dtype=np.float64) - second.mean(axis=0, dtype=np.float64)
    return float(gap @ gap + np.trace(a) + np.trace(b) - 2 * np.sqrt(np.maximum(product, 0)).sum())


def leading(centred: Samples, directions: int) -> Float[np.ndarray, "_ k"]:
    """Centred features in their leading principal directions, at most so many: (n, k) float64, the largest variance first."""
    wide = centred.astype(np.float64)
    small = min(wide.shape)
    k = min(directions, small)
    if small <= 2 * directions:
        u, s, _ = np.linalg.svd(wide, full_matrices=False)
        return (u * s)[:, :k]
    # Subspace iteration (Halko et al. 2011, algorithm 4.4) with room for as many directions again.
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((wide.shape[1], 2 * k))
    for _ in range(4):
        basis, _ = np.linalg.qr(wide.T @ (wide @ basis))
    u, s, _ = np.linalg.svd(wide @ basis, full_matrices=False)
    return (u * s)[:, :k]


def squared_distances(first: Samples, second: Samples) -> Float[np.ndarray, "n m"]:
    """Squared Euclidean distances, float64, never negative."""
    one, other = first.astype(np.float64), second.astype(np.float64)
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None, :] - 2 * one @ other.T
    return np.maximum(squares, 0.0)


def kernel(features: Samples) -> Float[np.ndarray, "n n"]:
    """Gaussian kernel exp(-d^2 / (2 h^2)) of standardised features; h: the median distance of two images (Gretton et al. 2012)."""
    squares = squared_distances(features, features)
    between = squares[~np.eye(len(squares), dtype=bool)]
    width = float(np.median(between)) if between.size else 0.0
    if width <= 0:
        raise UndefinedError("half of all pairs of images have the same features: no bandwidth")
    return np.exp(-squares / (2 * width))


def mmd2(gram: Float[np.ndarray, "n n"], sides: Shaped[np.ndarray, "r n"]) -> Float[np.ndarray, "r"]:
    """Unbiased squared maximum mean discrepancy (Gretton et al. 2012, equation 3), a row of `sides` (bool) each: of the images
    that are True there and the others.

    It may be negative; its mean is 0 where both come from one distribution.
    """
    one = sides.astype(np.float64)
    m = one.sum(axis=1)
    k = len(gram) - m
    if min(m.min(), k.min()) < 2:
        raise UndefinedError("needs two images on each side")
    off = gram - np.diag(np.diag(gram))
    reach = one @ off
    inside = (reach * one).sum(axis=1)
    across = reach.sum(axis=1) - inside
    outside = off.sum() - inside - 2 * across
    return inside / (m * (m - 1)) + outside / (k * (k - 1)) - 2 * across / (m * k)


def linear_cka(first: Shaped[np.ndarray, "n c"], second: Shaped[np.ndarray, "n d"]) -> float:
    """Linear centred kernel alignment (Kornblith et al. 2019) of (n, c) and (n, d): 0 to 1; high by chance where n < c."""
    x = first.astype(np.float64) - first.mean(axis=0, dtype=np.float64)
    y = second.astype(np.float64) - second.mean(axis=0, dtype=np.float64)
    # Whichever is smaller: the images' or the channels' side.
    if max(x.shape[1], y.shape[1]) <= len(x):
        cross, own, others = (float(np.linalg.norm(a.T @ b)) for a, b in ((x, y), (x, x), (y, y)))
        return _aligned(cross**2, own * others)
    k, h = x @ x.T, y @ y.T
    return _aligned(float((k * h).sum()), float(np.linalg.norm(k) * np.linalg.norm(h)))


def debiased_cka(first: Float[np.ndarray, "n n"], second: Float[np.ndarray, "n n"]) -> float:
    """CKA of two Gram matrices with unbiased HSIC (Song et al. 2012; Nguyen et al. 2021): 0 on average for what is unrelated."""
    if len(first) < 4:
        raise UndefinedError("needs four images")
    own, others = _hsic(first, first), _hsic(second, second)
    if min(own, others) <= 0:
        raise UndefinedError("one side shows no structure beyond chance")
    return _hsic(first, second) / np.sqrt(own * others)


def _hsic(k: Float[np.ndarray, "n n"], h: Float[np.ndarray, "n n"]) -> float:
    n = len(k)
    k, h = k - np.diag(np.diag(k)), h - np.diag(np.diag(h))
    cross = k.sum(axis=0) @ h.sum(axis=0)
    inner = (k * h).sum() + k.sum() * h.sum() / ((n - 1) * (n - 2)) - 2 * cross / (n - 2)
    return float(inner / (n * (n - 3)))


def _aligned(cross: float, norms: float) -> float:
    if norms <= 0:
        raise UndefinedError("one side is constant")
    return float(cross / norms)


def _needs_channels(values: Vector) -> None:
    if not len(values):
        raise UndefinedError("no channel varies in both the source and the data")
