"""Depthwise convolutions for XLA's CPU backend, which has no fast one: k * k shifted multiply-adds, which fuse into one loop."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from fteng.backbones.windows import Pads, gradient_pads, images_at_once, output_size, pad
from fteng.mesh import on_each_device

# Bytes of padded images that one step of the weight gradient takes.
_AT_ONCE = 2**22


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k 1 c"], stride: int, pads: Pads
) -> Float[Array, "n rows columns c"]:
    """Every channel is filtered by itself."""
    return _forward(x, kernel, stride, pads)[0]


def _forward(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k 1 c"], stride: int, pads: Pads
) -> tuple[Float[Array, "n rows columns c"], tuple[Float[Array, "n padded_h padded_w c"], Float[Array, "k k 1 c"]]]:
    padded = pad(x, pads)
    y = _shifted_sum(padded, kernel[:, :, 0], output_size(x.shape, kernel.shape[0], stride, pads), stride)
    # Padded, as the weight gradient wants it: it is there already.
    return y, (padded, kernel)


def _backward(
    stride: int,
    pads: Pads,
    saved: tuple[Float[Array, "n padded_h padded_w c"], Float[Array, "k k 1 c"]],
    dy: Float[Array, "n rows columns c"],
) -> tuple[Float[Array, "n h w c"], Float[Array, "k k 1 c"]]:
    padded, kernel = saved
    h, w = (length - sum(ends) for length, ends in zip(padded.shape[1:3], pads, strict=True))
    spread = pad(dy, gradient_pads((len(padded), h, w), dy.shape, kernel.shape[0], stride, pads), stride)
    dx = _shifted_sum(spread, kernel[::-1, ::-1, 0], (h, w), 1)
    return dx, on_each_device(partial(_weight_gradient, kernel.shape[0], stride), (padded, dy), add=True)


depthwise.defvjp(_forward, _backward)


def _weight_gradient(
    size: int, stride: int, padded: Float[Array, "n padded_h padded_w c"], dy: Float[Array, "n rows columns c"]
) -> Float[Array, "{size} {size} 1 c"]:
    """Of every tap, the sum over images, rows and columns of the shifted input times dy.

    A few images at a time: over ten layers of EfficientNet-Lite0 one at a time took half as long again, all at once several times
    as long. The loop over taps is there to compile one tap and not size * size.
    """
    n, h, w, c = dy.shape
    at_once = images_at_once(n, padded.nbytes // n, _AT_ONCE)

    def add(total: Float[Array, "taps c"], group: Int[Array, ""]) -> tuple[Float[Array, "taps c"], None]:
        first = group * at_once
        slope = lax.dynamic_slice_in_dim(dy, first, at_once)

        def tap(index: Int[Array, ""]) -> Float[Array, "c"]:
            window = (at_once, (h - 1) * stride + 1, (w - 1) * stride + 1, c)
            shifted = lax.dynamic_slice(padded, (first, index // size, index % size, 0), window)[:, ::stride, ::stride]
            return jnp.sum(shifted * slope, axis=(0, 1, 2))

        return total + lax.map(tap, jnp.arange(size * size)), None

    total, _ = lax.scan(add, jnp.zeros((size * size, c), dy.dtype), jnp.arange(n // at_once))
    return total.reshape(size, size, 1, c)


def _shifted_sum(
    padded: Float[Array, "n h w c"], kernel: Float[Array, "k k c"], output: tuple[int, int], stride: int
) -> Float[Array, "n {output[0]} {output[1]} c"]:
    size = kernel.shape[0]
    total = jnp.zeros((), padded.dtype)
    for i in range(size):
        for j in range(size):
            total = total + _window(padded, i, j, *output, stride) * kernel[i, j]
    return total


def _window(
    padded: Float[Array, "n padded_h padded_w c"], i: int, j: int, h: int, w: int, stride: int
) -> Float[Array, "n {h} {w} c"]:
    """What a tap at row i, column j sees."""
    n, _, _, c = padded.shape
    return lax.slice(padded, (0, i, j, 0), (n, i + (h - 1) * stride + 1, j + (w - 1) * stride + 1, c), (1, stride, stride, 1))
