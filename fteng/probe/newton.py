"""The minimum of a penalised multinomial cross-entropy by truncated Newton steps, for several weightings of the images at once."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

_MAX_STEPS, _MAX_PRODUCTS, _MAX_HALVINGS = 50, 200, 60
_DAMPING = 1e-6
# Armijo's share of the slope; and what a float32 value may be off by.
_ENOUGH, _ROUNDING = 1e-4, 1e-6


class Problem(NamedTuple):
    """rows: features, one column of ones last; labels: a class each; shares: of each image in the mean, a row a weighting w,
    each of which sums to 1; spectrum: about the second moment of each column, any
    where a column is zeros."""

    rows: Float[Array, "n d"]
    labels: Int32[Array, "n"]
    shares: Float[Array, "w n"]
    spectrum: Float[Array, "d"]


class Minimum(NamedTuple):
    """points: one a weighting; gradients: the largest entry of each, relative to that at zero; losses: cross-entropy in nats of
    every image there, in the mean or not."""

    points: Float[Array, "classes w d"]
    gradients: Float[Array, "w"]
    losses: Float[Array, "w n"]


class _Newton(NamedTuple):
    """`step` is still to be taken from `points`, where the penalised mean is `values` and falls by `slopes`."""

    points: Float[Array, "classes w d"]
    values: Float[Array, "w"]
    step: Float[Array, "classes w d"]
    slopes: Float[Array, "w"]
    gradients: Float[Array, "w"]
    losses: Float[Array, "w n"]
    steps: Int32[Array, ""]


class _Line(NamedTuple):
    """How far along a step, what is found there, and where that is no better."""

    lengths: Float[Array, "w"]
    values: Float[Array, "w"]
    probabilities: Float[Array, "classes w n"]
    losses: Float[Array, "w n"]
    too_long: Bool[Array, "w"]
    tries: Int32[Array, ""]


class _Conjugate(NamedTuple):
    """A step so far, what is left of the right side, where to look next, and who still does."""

    step: Float[Array, "classes w d"]
    residual: Float[Array, "classes w d"]
    direction: Float[Array, "classes w d"]
    size: Float[Array, "w"]
    active: Bool[Array, "w"]
    products: Int32[Array, ""]


@jax.jit
def minimise(
    problem: Problem, strength: Float[Array, ""], start: Float[Array, "classes w d"], tolerance: float | Float[Array, ""]
) -> Minimum:
    """Of each weighting the mean cross-entropy + strength / 2 * |point|^2, the column of ones left out of that, from `start` on.

    A step is solved by conjugate gradients, the more exactly the smaller the gradient (Dembo and Steihaug 1983), and halved while
    it does not lower the value. It ends where every gradient is below `tolerance`, or after 50 steps; those that are
    stay where they are. Classes come first in every array: what goes over them is whole vectors at a time then.
    """
    rows, labels, shares, spectrum = problem
    classes, (n, d) = len(start), rows.shape
    targets = jax.nn.one_hot(labels, classes, axis=0)[:, None]
    decay = strength * jnp.ones_like(spectrum).at[-1].set(0.0)

    def forth(points: Float[Array, "classes w d"]) -> Float[Array, "classes w n"]:
        return (points.reshape(-1, d) @ rows.T).reshape(classes, -1, n)

    def back(errors: Float[Array, "classes w n"]) -> Float[Array, "classes w d"]:
        return ((errors * shares).reshape(-1, n) @ rows).reshape(classes, -1, d)

    def look(now: _Newton) -> _Line:
        """Along the step, half as far until it is lower there."""

        def halve(line: _Line) -> _Line:
            lengths = jnp.where(line.too_long, 0.5 * line.lengths, line.lengths)
            points = now.points + lengths[:, None] * now.step
            logits = forth(points)
            most = logits.max(0)
            raised = jnp.exp(logits - most)
            total = raised.sum(0)
            # Not by a product with the targets: XLA:CPU (jaxlib 0.10.2) sums products over classes wrongly where one side is the
            # same for all weightings and images are many, https://github.com/jax-ml/jax/issues/39103.
            losses = jnp.log(total) + (most - jnp.take_along_axis(logits, labels[None, None], axis=0)[0])
            values = (losses * shares).sum(1) + 0.5 * _dot(decay * points, points)
            limits = now.values + _ENOUGH * lengths * now.slopes + _ROUNDING * (1 + jnp.abs(now.values))
            # What is no number is not lower.
            return _Line(lengths, values, raised / total, losses, ~(values <= limits), line.tries + 1)

        ones = jnp.ones_like(now.values)
        first = _Line(2 * ones, ones, jnp.zeros((classes, *shares.shape)), now.losses, ones > 0, jnp.int32(0))
        return jax.lax.while_loop(lambda line: line.too_long.any() & (line.tries < _MAX_HALVINGS), halve, first)

    def solve(
        p: Float[Array, "classes w n"],
        gradient: Float[Array, "classes w d"],
        exactness: Float[Array, "w"],
        active: Bool[Array, "w"],
    ) -> Float[Array, "classes w d"]:
        """Newton's step where the probabilities are p, to `exactness` times the gradient; nothing where not active."""
        spread = (p * (1 - p) * shares).sum(2)
        # A little more than there is, as of Levenberg and Marquardt: where every answer is certain there is no curvature.
        ridge = decay + _DAMPING * spectrum
        precondition = 1 / (spectrum * spread[:, :, None] + ridge)

        def advance(now: _Conjugate) -> _Conjugate:
            change = p * forth(now.direction)
            along = back(change - p * change.sum(0)) + ridge * now.direction
            lengths = jnp.where(now.active, now.size / jnp.maximum(_dot(now.direction, along), 1e-30), 0.0)[:, None]
            residual = now.residual - lengths * along
            ahead = precondition * residual
            size = _dot(residual, ahead)
            direction = ahead + (size / jnp.maximum(now.size, 1e-30))[:, None] * now.direction
            unsolved = now.active & (_dot(residual, residual) > exactness**2 * _dot(gradient, gradient))
            return _Conjugate(now.step + lengths * now.direction, residual, direction, size, unsolved, now.products + 1)

        first = -precondition * gradient
        begin = _Conjugate(jnp.zeros_like(first), -gradient, first, _dot(-gradient, first), active, jnp.int32(0))
        return jax.lax.while_loop(lambda now: now.active.any() & (now.products < _MAX_PRODUCTS), advance, begin).step

    at_zero = back(jnp.broadcast_to(1 / classes - targets, (classes, *shares.shape)))
    steepest = jnp.maximum(_largest(at_zero), jnp.finfo(jnp.float32).tiny)

    def improve(now: _Newton) -> _Newton:
        line = look(now)
        points = now.points + line.lengths[:, None] * now.step
        gradient = back(line.probabilities - targets) + decay * points
        relative = _largest(gradient) / steepest
        step = solve(line.probabilities, gradient, jnp.minimum(0.5, jnp.sqrt(relative)), relative > tolerance)
        return _Newton(points, line.values, step, _dot(gradient, step), relative, line.losses, now.steps + 1)

    # No step yet, and any value is lower than that.
    none, infinite = jnp.zeros_like(start), jnp.full(len(shares), jnp.inf)
    begin = _Newton(start, infinite, none, jnp.zeros(len(shares)), infinite, jnp.zeros_like(shares), jnp.int32(0))
    end = jax.lax.while_loop(lambda now: (now.gradients > tolerance).any() & (now.steps <= _MAX_STEPS), improve, begin)
    return Minimum(end.points, end.gradients, end.losses)


def _dot(one: Float[Array, "classes w d"], other: Float[Array, "classes w d"]) -> Float[Array, "w"]:
    return (one * other).sum((0, 2))


def _largest(gradient: Float[Array, "classes w d"]) -> Float[Array, "w"]:
    return jnp.abs(gradient).max((0, 2))
