"""Where the windows of a convolution lie: padding, output sizes, and how many images are worked on at once."""

from typing import Literal

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Padding = int | Literal["SAME", "VALID"]
# Zeros before and after the rows, before and after the columns; a negative number crops.
Pads = tuple[tuple[int, int], tuple[int, int]]


def pads_of(shape: tuple[int, ...], size: int, stride: int, padding: Padding) -> Pads:
    """Of images (n, h, w, c). SAME is TensorFlow's and XLA's: an odd zero comes after. An int is torch's: on every side."""
    if isinstance(padding, int):
        return (padding, padding), (padding, padding)
    if padding == "VALID":
        return (0, 0), (0, 0)
    totals = [max((-(-length // stride) - 1) * stride + size - length, 0) for length in shape[1:3]]
    rows, columns = [(total // 2, total - total // 2) for total in totals]
    return rows, columns


def output_size(shape: tuple[int, ...], size: int, stride: int, pads: Pads) -> tuple[int, int]:
    """Rows and columns of windows; 0 where the padded image is smaller than one window."""
    rows, columns = [max((length + sum(pad) - size) // stride + 1, 0) for length, pad in zip(shape[1:3], pads, strict=True)]
    return rows, columns


def pad(x: Float[Array, "n h w c"], pads: Pads, spread: int = 1) -> Float[Array, "n padded_h padded_w c"]:
    """`spread`: the distance to which neighbours are pulled apart before padding, with zeros between."""
    still = (0, 0, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), (still, *((*ends, spread - 1) for ends in pads), still))


def gradient_pads(shape: tuple[int, ...], slope: tuple[int, ...], size: int, stride: int, pads: Pads) -> Pads:
    """What the output's gradient, spread out by the stride, needs around it for windows of stride 1 to give the input's."""
    befores = [size - 1 - before for before, _ in pads]
    spreads = [(length - 1) * stride + 1 for length in slope[1:3]]
    lengths = zip(shape[1:3], befores, spreads, strict=True)
    rows, columns = [(before, length + size - 1 - before - spread) for length, before, spread in lengths]
    return rows, columns


def images_at_once(images: int, bytes_an_image: int, limit: int) -> int:
    """The largest divisor of `images` that stays within `limit` bytes, at least one image."""
    return max((count for count in range(1, images + 1) if images % count == 0 and count * bytes_an_image <= limit), default=1)
