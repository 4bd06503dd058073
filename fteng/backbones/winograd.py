"""3x3 convolutions of stride 1 by Winograd's F(2x2, 3x3) and its gradient F(3x3, 2x2): 16 products where windows take 36.

Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks". Every coefficient is 0, 1 or 1/2, so float32 loses about
one bit: 1e-6 of the largest value, measured. The product of each of the 16 places of a tile is one matrix product over all tiles.

The images are worked on in groups whose tiles fit `_TILES` bytes: larger groups fill the cores better, and a loop uses the same
memory again and again where a fresh array would be paged in.
"""

from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from fteng.backbones.windows import Pads, images_at_once, output_size, pad
from fteng.mesh import on_each_device

_TILES = 64 * 2**20
_Places: TypeAlias = list[list[Array]]


def convolve(
    x: Float[Array, "n h w inputs"], kernel: Float[Array, "3 3 inputs outputs"], pads: Pads
) -> Float[Array, "n rows columns outputs"]:
    """The convolution of stride 1."""
    matrices = _spread_kernel([[kernel[i, j] for j in range(3)] for i in range(3)])
    return on_each_device(partial(_convolve, pads, 0), (x,), (matrices,), add=False)


def transpose(
    y: Float[Array, "n h w outputs"], kernel: Float[Array, "3 3 inputs outputs"], pads: Pads
) -> Float[Array, "n rows columns inputs"]:
    """The convolution with the kernel turned round, from its outputs to its inputs: the gradient with respect to the input.

    The matrices are multiplied as they lie: turning them took two to three times the convolution at 512 channels.
    """
    matrices = _spread_kernel([[kernel[2 - i, 2 - j] for j in range(3)] for i in range(3)])
    return on_each_device(partial(_convolve, pads, 1), (y,), (matrices,), add=False)


def _convolve(
    pads: Pads, inputs_axis: int, x: Float[Array, "n h w inputs"], matrices: _Places
) -> Float[Array, "n rows columns outputs"]:
    rows, columns = output_size(x.shape, 3, 1, pads)
    high, wide = -(-rows // 2), -(-columns // 2)
    outputs = matrices[0][0].shape[1 - inputs_axis]

    def product(tile: Float[Array, "tiles inputs"], matrix: Float[Array, "a b"]) -> Float[Array, "tiles outputs"]:
        return lax.dot_general(tile, matrix, (((1,), (inputs_axis,)), ((), ())))

    def group(part: Float[Array, "m h w inputs"]) -> Float[Array, "m even_rows even_columns outputs"]:
        tiles = _input_tiles(part, pads, high, wide)
        products = [[product(*places) for places in zip(*pair, strict=True)] for pair in zip(tiles, matrices, strict=True)]
        left = [(m[0] + m[1] + m[2], m[1] - m[2] - m[3]) for m in products]
        corners = [[part.reshape(-1, high, wide, outputs) for part in _outer(left, column)] for column in range(2)]
        lines = [jnp.stack([corners[column][row] for column in range(2)], axis=3) for row in range(2)]
        return jnp.stack(lines, axis=2).reshape(-1, 2 * high, 2 * wide, outputs)

    size = _group_size(x, outputs, high * wide)
    if size == x.shape[0]:
        y = group(x)
    else:
        y = lax.map(group, x.reshape(-1, size, *x.shape[1:])).reshape(-1, 2 * high, 2 * wide, outputs)
    return y[:, :rows, :columns]


def weight_gradient(
    pads: Pads, x: Float[Array, "n h w inputs"], slope: Float[Array, "n rows columns outputs"]
) -> Float[Array, "3 3 inputs outputs"]:
    """Of the sum of `slope` times the convolution's output, with respect to the kernel."""
    high, wide = -(-slope.shape[1] // 2), -(-slope.shape[2] // 2)

    def group(part: Float[Array, "m h w inputs"], of: Float[Array, "m rows columns outputs"]) -> _Places:
        tiles, slopes = _input_tiles(part, pads, high, wide), _slope_tiles(of, high, wide)
        return [[over_pixels(a, b) for a, b in zip(*pair, strict=True)] for pair in zip(tiles, slopes, strict=True)]

    size = _group_size(x, slope.shape[-1], high * wide)
    if size == x.shape[0]:
        total = group(x, slope)
    else:

        def add(total: _Places, parts: tuple[Array, Array]) -> tuple[_Places, None]:
            return jax.tree.map(jnp.add, total, group(*parts)), None

        zeros = [[jnp.zeros((x.shape[-1], slope.shape[-1]), x.dtype)] * 4] * 4
        groups = [array.reshape(-1, size, *array.shape[1:]) for array in (x, slope)]
        total, _ = lax.scan(add, zeros, (groups[0], groups[1]))
    columns = [_gather(line) for line in total]
    return jnp.stack([jnp.stack(line) for line in zip(*[_gather([c[j] for c in columns]) for j in range(3)], strict=True)])


def over_pixels(x: Float[Array, "pixels a"], y: Float[Array, "pixels b"]) -> Float[Array, "a b"]:
    """x.T @ y. XLA:CPU packs its first operand slowly here, so the narrower one comes first: up to 1.6 times as fast.

    The barrier keeps XLA from turning the product round again.
    """
    if x.shape[1] <= y.shape[1]:
        return lax.dot_general(x, y, (((0,), (0,)), ((), ())))
    return lax.optimization_barrier(lax.dot_general(y, x, (((0,), (0,)), ((), ())))).T


def _group_size(x: Float[Array, "n h w inputs"], outputs: int, tiles: int) -> int:
    return images_at_once(x.shape[0], 16 * tiles * max(x.shape[-1], outputs) * x.dtype.itemsize, _TILES)


def _input_tiles(x: Float[Array, "m h w c"], pads: Pads, high: int, wide: int) -> _Places:
    """B^T d B of every 4x4 tile d, two pixels from tile to tile: 4 x 4 arrays (m * high * wide, c)."""
    m, h, w, c = x.shape
    tops = pads[0][0], pads[1][0]
    padded = pad(x, ((tops[0], 2 * high + 2 - h - tops[0]), (tops[1], 2 * wide + 2 - w - tops[1])))

    def place(i: int, j: int) -> Array:
        return lax.slice(padded, (0, i, j, 0), (m, i + 2 * high - 1, j + 2 * wide - 1, c), (1, 2, 2, 1))

    def transform(d: list[Array]) -> list[Array]:
        return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]

    columns = [transform([place(i, j) for i in range(4)]) for j in range(4)]
    return [[tile.reshape(-1, c) for tile in transform([column[i] for column in columns])] for i in range(4)]


def _slope_tiles(slope: Float[Array, "m rows columns c"], high: int, wide: int) -> _Places:
    """A d A^T of every 2x2 tile d: 4 x 4 arrays (m * high * wide, c)."""
    _, rows, columns, c = slope.shape
    even = pad(slope, ((0, 2 * high - rows), (0, 2 * wide - columns)))

    def transform(d: list[Array]) -> list[Array]:
        # The fourth is -d[1] in the paper; `_gather` has the sign, which saves a pass over the pixels.
        return [d[0], d[0] + d[1], d[0] - d[1], d[1]]

    corners = [[even[:, i::2, j::2].reshape(-1, c) for i in range(2)] for j in range(2)]
    lines = [transform(corner) for corner in corners]
    return [transform([line[i] for line in lines]) for i in range(4)]


def _spread_kernel(kernel: _Places) -> _Places:
    """G g G^T: 3 x 3 to 4 x 4 matrices (inputs, outputs)."""

    def transform(g: list[Array]) -> list[Array]:
        return [g[0], (g[0] + g[1] + g[2]) / 2, (g[0] - g[1] + g[2]) / 2, g[2]]

    columns = [transform([kernel[i][j] for i in range(3)]) for j in range(3)]
    return [transform([column[i] for column in columns]) for i in range(4)]


def _gather(m: list[Array]) -> list[Array]:
    """G^T m, of one line of places."""
    return [m[0] + (m[1] + m[2]) / 2, (m[1] - m[2]) / 2, (m[1] + m[2]) / 2 - m[3]]


def _outer(left: list[tuple[Array, Array]], column: int) -> tuple[Array, Array]:
    """A^T m, of one column of places."""
    m = [line[column] for line in left]
    return m[0] + m[1] + m[2], m[1] - m[2] - m[3]
