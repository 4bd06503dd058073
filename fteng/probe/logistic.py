"""Multinomial logistic regression for every L2 strength at once, from one eigendecomposition."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Relative to the gradient at zero; tighter than any difference a validation score can see.
_TOLERANCE = 3e-4
_MAX_ITERATIONS = 1000


class Solution(NamedTuple):
    """kernels: (strengths, channels, classes) and biases: (strengths, classes), for raw features; gradient: (strengths,), the
    largest entry of the final gradient relative to that at zero; iterations: until all were below the tolerance."""

    kernels: np.ndarray
    biases: np.ndarray
    gradient: np.ndarray
    iterations: int


def fit(features: np.ndarray, labels: np.ndarray, classes: int, strengths: np.ndarray) -> Solution:
    """Minimises mean cross-entropy + strength / 2 * |kernel|^2 over standardised features, for each of `strengths`.

    features: (n, channels) float32; labels: (n,) int; strengths: (s,) > 0.

    Accelerated gradient descent (Nesterov 1983) with adaptive restart (O'Donoghue and Candes 2015), in the eigenbasis of the
    features' covariance, where the upper bound 1/2 * covariance on the softmax Hessian (Boehning 1992) is a diagonal: it gives a
    step size for every direction and every strength, and all strengths share each product with the features.
    """
    mean, std = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    # A constant channel carries nothing: it stays at zero instead of being divided by rounding noise.
    scale = np.where(std > 1e-6 * (1 + np.abs(mean)), 1 / np.maximum(std, 1e-30), 0.0)
    standard = (features - mean) * scale
    spectrum, basis = np.linalg.eigh(standard.T @ standard / len(standard))
    kept = spectrum > 1e-7 * max(spectrum[-1], 1e-30)
    # Directions are padded to a power of two, so that taps of similar width share one compiled program.
    padding = (1 << int(kept.sum() - 1).bit_length()) - int(kept.sum())
    spectrum, basis = np.pad(spectrum[kept], (0, padding), constant_values=1.0), np.pad(basis[:, kept], ((0, 0), (0, padding)))
    kernels, biases, gradient, iterations = _descend(
        jnp.asarray(standard @ basis, jnp.float32),
        jax.nn.one_hot(labels, classes),
        jnp.asarray(spectrum, jnp.float32),
        jnp.asarray(strengths, jnp.float32),
        jnp.zeros((len(spectrum) + 1, len(strengths), classes)),
    )
    raw = scale[:, None] * (basis @ np.asarray(kernels, np.float64).transpose(1, 0, 2))
    return Solution(
        raw.astype(np.float32),
        (np.asarray(biases, np.float64) - mean @ raw).astype(np.float32),
        np.asarray(gradient),
        int(iterations),
    )


class _Descent(NamedTuple):
    """point, ahead: (r + 1, s, classes), the last row the bias; speed: (s, 1) Nesterov's t; gradient: (s,) relative."""

    point: jax.Array
    ahead: jax.Array
    speed: jax.Array
    gradient: jax.Array
    iteration: jax.Array


@jax.jit
def _descend(
    rows: jax.Array, targets: jax.Array, spectrum: jax.Array, strengths: jax.Array, zero: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """rows: (n, r) in the eigenbasis; targets: (n, classes); spectrum: (r,); strengths: (s,); zero: (r + 1, s, classes).

    The start is an argument and the products are plain matrices on purpose: XLA:CPU (jaxlib 0.10.2) multiplies a constant zero
    operand of a three-axis einsum wrongly, to NaN.
    """
    n, classes = targets.shape
    rows = jnp.concatenate([rows, jnp.ones((n, 1))], axis=1)
    columns = strengths.shape[0] * classes
    bound = jnp.append(0.5 * spectrum, 0.5)[:, None, None]
    decay = strengths[:, None] * jnp.append(jnp.ones_like(spectrum), 0.0)[:, None, None]
    precondition = 1 / (bound + decay)

    def gradient_at(point: jax.Array) -> jax.Array:
        logits = (rows @ point.reshape(-1, columns)).reshape(n, -1, classes)
        error = jax.nn.softmax(logits) - targets[:, None]
        return (rows.T @ error.reshape(n, columns)).reshape(point.shape) / n + decay * point

    def largest(gradient: jax.Array) -> jax.Array:
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

    def unfinished(now: _Descent) -> jax.Array:
        return (jnp.max(now.gradient) > _TOLERANCE) & (now.iteration < _MAX_ITERATIONS)

    ones = jnp.ones_like(strengths)
    end = jax.lax.while_loop(unfinished, advance, _Descent(zero, zero, ones[:, None], ones, jnp.int32(0)))
    return end.point[:-1], end.point[-1], end.gradient, end.iteration
