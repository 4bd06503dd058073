"""Multinomial logistic regression for every L2 strength at once, from one eigendecomposition."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, Int32
from scipy.special import logsumexp

# Relative to the gradient at zero; tighter than any difference a validation score can see.
_TOLERANCE = 3e-4
# Of the fits that only rank strengths: the loss on images left out is then within a few per cent, in half the time.
_FOLD_TOLERANCE = 1e-3
_MAX_ITERATIONS = 1000


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

    labels: in [0, classes); strengths: > 0; folds: rows of each, to say how well each strength does on images left out.

    Accelerated gradient descent (Nesterov 1983) with adaptive restart (O'Donoghue and Candes 2015), in the eigenbasis of the
    features' covariance, where the upper bound 1/2 * covariance on the softmax Hessian (Boehning 1992) is a diagonal: it gives a
    step size for every direction and every strength, and all strengths share each product with the features. Folds share mean,
    scale and basis, in which labels have no part: no more than weights of the images tell them apart, so one program runs all.
    """
    n = len(features)
    mean, std = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    # A constant channel carries nothing: it stays at zero instead of being divided by rounding noise.
    scale = np.where(std > 1e-6 * (1 + np.abs(mean)), 1 / np.maximum(std, 1e-30), 0.0)
    standard = (features - mean) * scale
    spectrum, basis = _eigenbasis(standard)
    # Directions are padded to a power of two, so that taps of similar width share one compiled program.
    padding = (1 << int(len(spectrum) - 1).bit_length()) - len(spectrum)
    spectrum, basis = np.pad(spectrum, (0, padding), constant_values=1.0), np.pad(basis, ((0, 0), (0, padding)))
    rows = jnp.asarray(standard @ basis, jnp.float32)
    targets = jax.nn.one_hot(labels, classes)
    zero = jnp.zeros((len(spectrum) + 1, len(strengths), classes))

    def descend(chosen: Bool[np.ndarray, "n"], tolerance: float) -> tuple[jax.Array, jax.Array, jax.Array]:
        share = jnp.asarray(chosen / chosen.sum(), jnp.float32)
        # Of some rows the covariance is at most that of all, times all over some.
        most = jnp.asarray(np.append(spectrum, 1.0) * (n / chosen.sum()), jnp.float32)
        return _descend(rows, targets, share, most, jnp.asarray(strengths, jnp.float32), zero, tolerance)

    kernels, biases, gradient = descend(np.ones(n, bool), _TOLERANCE)
    raw = scale[:, None] * (basis @ np.asarray(kernels, np.float64).transpose(1, 0, 2))
    return Solution(
        raw.astype(np.float32),
        (np.asarray(biases, np.float64) - mean @ raw).astype(np.float32),
        np.asarray(gradient),
        _left_out(rows, labels, folds, len(strengths), lambda chosen: descend(chosen, _FOLD_TOLERANCE)),
    )


def _eigenbasis(standard: Float[np.ndarray, "n channels"]) -> tuple[Float[np.ndarray, "r"], Float[np.ndarray, "channels r"]]:
    """Eigenvalues and eigenvectors of the second moments, those that are more than rounding."""
    n, channels = standard.shape
    # Of fewer images than channels the products of images have the same eigenvalues, and cost by the cube of their number.
    dual = n < channels
    spectrum, vectors = np.linalg.eigh((standard @ standard.T if dual else standard.T @ standard) / n)
    kept = spectrum > 1e-7 * max(spectrum[-1], 1e-30)
    spectrum, vectors = spectrum[kept], vectors[:, kept]
    return spectrum, standard.T @ vectors / np.sqrt(n * spectrum) if dual else vectors


def _left_out(
    rows: Float[Array, "n r"],
    labels: Int[np.ndarray, "n"],
    folds: Sequence[Int[np.ndarray, "_"]],
    count: int,
    descend: Callable[[Bool[np.ndarray, "n"]], tuple[jax.Array, jax.Array, jax.Array]],
) -> Float[np.ndarray, "s"]:
    """Mean log loss of every image by the heads fitted without its fold. count: of strengths."""
    if not folds:
        return np.full(count, np.nan)
    every, losses = np.asarray(rows), np.zeros(count)
    for fold in folds:
        chosen = np.ones(len(labels), bool)
        chosen[fold] = False
        kernels, biases, _ = map(np.asarray, descend(chosen))
        logits = (every[fold] @ kernels.reshape(len(kernels), -1)).reshape(len(fold), *biases.shape) + biases
        own = np.take_along_axis(logits, labels[fold][:, None, None], axis=2)[..., 0]
        losses += (logsumexp(logits, axis=2) - own).sum(axis=0)
    return losses / sum(map(len, folds))


class _Descent(NamedTuple):
    """point, ahead: the last row is the bias; speed: Nesterov's t; gradient: relative."""

    point: Float[Array, "r+1 s classes"]
    ahead: Float[Array, "r+1 s classes"]
    speed: Float[Array, "s 1"]
    gradient: Float[Array, "s"]
    iteration: Int32[Array, ""]


@jax.jit
def _descend(
    rows: Float[Array, "n r"],
    targets: Float[Array, "n classes"],
    share: Float[Array, "n"],
    spectrum: Float[Array, "r+1"],
    strengths: Float[Array, "s"],
    zero: Float[Array, "r+1 s classes"],
    tolerance: float | Float[Array, ""],
) -> tuple[Float[Array, "r s classes"], Float[Array, "s classes"], Float[Array, "s"]]:
    """rows: in the eigenbasis; share: of each in the mean; spectrum: of their second moments, or more, that of the bias last.
    Returns kernels, biases and relative gradients.

    The start is an argument and the products are plain matrices on purpose: XLA:CPU (jaxlib 0.10.2) multiplies a constant zero
    operand of a three-axis einsum wrongly, to NaN.
    """
    n, classes = targets.shape
    rows = jnp.concatenate([rows, jnp.ones((n, 1))], axis=1)
    columns = strengths.shape[0] * classes
    decay = strengths[:, None] * jnp.ones_like(spectrum).at[-1].set(0.0)[:, None, None]
    precondition = 1 / (0.5 * spectrum[:, None, None] + decay)

    def gradient_at(point: Float[Array, "rows s classes"]) -> Float[Array, "rows s classes"]:
        logits = (rows @ point.reshape(-1, columns)).reshape(n, -1, classes)
        error = jax.nn.softmax(logits) - targets[:, None]
        error = error * share[:, None, None]
        return (rows.T @ error.reshape(n, columns)).reshape(point.shape) + decay * point

    def largest(gradient: Float[Array, "rows s classes"]) -> Float[Array, "s"]:
        return jnp.max(jnp.abs(gradient), axis=(0, 2))

    start = largest(gradient_at(zero))

    def advance(now: _Descent) -> _Descent:
        gradient = gradient_at(now.ahead)
        point = now.ahead - precondition * gradient
        # Restart where the momentum points uphill, each strength for itself.
        uphill = jnp.sum(gradient * (point - now.point), axis=(0, 2))[:, None] > 0
        speed = jnp.where(uphill, 1.0, now.speed)
        faster = (1 + jnp.sqrt(1 + 4 * speed**2)) / 2
        ahead = point + (speed - 1) / faster * (point - now.point)
        return _Descent(point, ahead, faster, largest(gradient) / start, now.iteration + 1)

    def unfinished(now: _Descent) -> Bool[Array, ""]:
        return (jnp.max(now.gradient) > tolerance) & (now.iteration < _MAX_ITERATIONS)

    ones = jnp.ones_like(strengths)
    end = jax.lax.while_loop(unfinished, advance, _Descent(zero, zero, ones[:, None], ones, jnp.int32(0)))
    return end.point[:-1], end.point[-1], end.gradient
