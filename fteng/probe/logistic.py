"""Multinomial logistic regression along a path of L2 strengths, all images and the folds at once, from one eigendecomposition."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int

from fteng.probe.newton import Problem, minimise

# Relative to the gradient at zero. Where features tell all classes apart, strengths far below the best begin within it: they keep
# the solution of the one before, and what folds say of them is too low, by a fifth at the last. To carry them on costs as much as
# all others.
_TOLERANCE = 3e-4


class Solution(NamedTuple):
    """One of each a strength s. kernels, biases: for raw features; gradient: the largest entry of the final gradient relative to
    that at zero; left_out: mean log loss of images whose fold was left out, nan without folds."""

    kernels: Float32[np.ndarray, "s channels classes"]
    biases: Float32[np.ndarray, "s classes"]
    gradient: Float32[np.ndarray, "s"]
    left_out: Float[np.ndarray, "s"]


def fit(
    features: Float[np.ndarray, "n channels"],
    labels: Int[np.ndarray, "n"],
    classes: int,
    strengths: Float[np.ndarray, "s"],
    folds: Sequence[Int[np.ndarray, "_"]] = (),
) -> Solution:
    """Minimises mean cross-entropy + strength / 2 * |kernel|^2 over standardised features, for each of `strengths`.

    labels: in [0, classes); strengths: > 0, of which the weakest may end early; folds: rows of each, to say how well each strength
    does on images left out.

    Newton's steps in the eigenbasis of the features' covariance, where that times the mean variance of a class's probability is a
    diagonal near the Hessian. From the strongest on, each strength begins at the solution of the one before (Friedman, Hastie and
    Tibshirani 2010). All images and the folds go side by side and share each product with the features: they share mean, scale and
    basis, in which labels have no part, and no more than weights of the images tell them apart.
    """
    n, left = len(features), np.zeros((len(folds), len(features)), bool)
    for row, fold in zip(left, folds, strict=True):
        row[fold] = True
    mean, std = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    # A constant channel carries nothing: it stays at zero instead of being divided by rounding noise.
    scale = np.where(std > 1e-6 * (1 + np.abs(mean)), 1 / np.maximum(std, 1e-30), 0.0)
    standard = (features - mean) * scale
    spectrum, basis = _eigenbasis(standard)
    # Directions are padded, so that taps of similar width share one compiled program.
    padding = _padded(len(spectrum)) - len(spectrum)
    spectrum, basis = np.pad(spectrum, (0, padding), constant_values=1.0), np.pad(basis, ((0, 0), (0, padding)))
    chosen = np.vstack([np.ones((1, n), bool), ~left])
    problem = Problem(
        rows=jnp.asarray(np.column_stack([standard @ basis, np.ones(n)]), jnp.float32),
        labels=jnp.asarray(labels, jnp.int32),
        shares=jnp.asarray(chosen / chosen.sum(axis=1, keepdims=True), jnp.float32),
        spectrum=jnp.asarray(np.append(spectrum, 1.0), jnp.float32),
    )
    points = jnp.zeros((classes, len(chosen), len(spectrum) + 1))
    kernels = np.empty((len(strengths), features.shape[1], classes), np.float32)
    biases = np.empty((len(strengths), classes), np.float32)
    gradients, left_out = np.empty(len(strengths), np.float32), np.full(len(strengths), np.nan)
    for index in np.argsort(strengths)[::-1]:
        points, gradient, losses = minimise(problem, jnp.float32(strengths[index]), points, _TOLERANCE)
        mine = np.asarray(points[:, 0], np.float64).T
        raw = scale[:, None] * (basis @ mine[:-1])
        kernels[index], biases[index], gradients[index] = raw, mine[-1] - mean @ raw, gradient[0]
        if folds:
            left_out[index] = np.asarray(losses, np.float64)[1:][left].sum() / left.sum()
    return Solution(kernels, biases, gradients, left_out)


def _padded(directions: int) -> int:
    """The next power of two from 32 on, or multiple of 64."""
    return max(32, min(1 << (directions - 1).bit_length(), -(-directions // 64) * 64))


def _eigenbasis(standard: Float[np.ndarray, "n channels"]) -> tuple[Float[np.ndarray, "r"], Float[np.ndarray, "channels r"]]:
    """Eigenvalues and eigenvectors of the second moments, those that are more than rounding."""
    n, channels = standard.shape
    # Of fewer images than channels the products of images have the same eigenvalues, and cost by the cube of their number.
    dual = n < channels
    spectrum, vectors = np.linalg.eigh((standard @ standard.T if dual else standard.T @ standard) / n)
    kept = spectrum > 1e-7 * max(spectrum[-1], 1e-30)
    spectrum, vectors = spectrum[kept], vectors[:, kept]
    return spectrum, standard.T @ vectors / np.sqrt(n * spectrum) if dual else vectors
