"""Convolutions, fast on the platform they run on.

Padding is "SAME" and "VALID" as XLA has them, or an int: that many zeros on every side, as torch has it.

XLA's CPU backend has no fast depthwise convolution and no fast weight gradient; its dense forward pass is good. There the way is
chosen by shape, from measurement: 1x1 and patches are matrix products of all pixels, large 3x3 layers are Winograd's, the rest runs
forward natively and, where there are many pixels, has its weight gradient from matrix products. Elsewhere XLA's own runs.

The platform is JAX's default backend at trace time. `jax.lax.platform_dependent` would also choose well for a CPU beside a GPU,
at the price of tracing every convolution twice; there the native convolution is right too, only slow.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from fteng.backbones import winograd
from fteng.backbones.depthwise import depthwise as shifted_depthwise
from fteng.backbones.windows import Padding, Pads, gradient_pads, images_at_once, output_size, pad, pads_of
from fteng.mesh import on_each_device

# Bytes of the patches that one matrix product of the weight gradient takes.
_PATCHES = 32 * 2**20
# Multiply-adds from which Winograd's way is worth about a second of compilation.
_WORTH = 2**29
# Pixels of the output, over all images, up to which the native weight gradient is as fast and within 1e-5 of the exact one. From
# 100,000 on it was off by up to 3e-5 and took up to 6 times as long.
_FEW_PIXELS = 2**15
# Channels from which Winograd's way beats the native convolution; its weight gradient does from fewer.
_WIDE = 128


def dense(
    x: Float[Array, "n h w inputs"], kernel: Float[Array, "k k inputs outputs"], stride: int, padding: Padding = "SAME"
) -> Float[Array, "n rows columns outputs"]:
    """Every output channel sees every input channel."""
    if jax.default_backend() != "cpu":
        return native(x, kernel, stride, padding)
    size, inputs, outputs = kernel.shape[0], *kernel.shape[2:]
    pads = pads_of(x.shape, size, stride, padding)
    if size == 1:
        return _dense(pad(x, pads)[:, ::stride, ::stride], kernel[0, 0])
    if size == stride:
        rows, columns = output_size(x.shape, size, stride, pads)
        whole = pad(x, pads)[:, : rows * size, : columns * size].reshape(-1, rows, size, columns, size, inputs)
        patches = whole.transpose(0, 1, 3, 2, 4, 5).reshape(-1, rows, columns, size * size * inputs)
        return _dense(patches, kernel.reshape(-1, outputs))
    # The first layer of a network: its patches are no larger than its output.
    if size * size * inputs <= outputs:
        return _dense(_patches(x, size, stride, pads), kernel.reshape(-1, outputs))
    return _windowed(x, kernel, stride, pads)


def depthwise(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k 1 c"], stride: int, padding: Padding = "SAME"
) -> Float[Array, "n rows columns c"]:
    """Every channel is filtered by itself."""
    if jax.default_backend() != "cpu":
        return native(x, kernel, stride, padding)
    return shifted_depthwise(x, kernel, stride, pads_of(x.shape, kernel.shape[0], stride, padding))


def native(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k inputs outputs"], stride: int, padding: Padding = "SAME"
) -> Float[Array, "n rows columns outputs"]:
    """XLA's own convolution; depthwise if the kernel has one input channel and x has more."""
    return _native(x, kernel, stride, pads_of(x.shape, kernel.shape[0], stride, padding))


def _native(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k inputs outputs"], stride: int, pads: Pads
) -> Float[Array, "n rows columns outputs"]:
    groups = x.shape[-1] // kernel.shape[2]
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=layout, feature_group_count=groups)


def _patches(
    x: Float[Array, "n h w inputs"], size: int, stride: int, pads: Pads
) -> Float[Array, "n rows columns {size}*{size}*inputs"]:
    """What each window sees. Columns are put side by side first, which touches an input fewer times than all taps at once."""
    rows, columns = output_size(x.shape, size, stride, pads)
    x = pad(x, pads)
    wide = jnp.concatenate([x[:, :, j : j + (columns - 1) * stride + 1 : stride] for j in range(size)], axis=-1)
    return jnp.concatenate([wide[:, i : i + (rows - 1) * stride + 1 : stride] for i in range(size)], axis=-1)


def _dense(x: Float[Array, "n h w inputs"], matrix: Float[Array, "inputs outputs"]) -> Float[Array, "n h w outputs"]:
    return _matmul(x.reshape(-1, x.shape[-1]), matrix).reshape(*x.shape[:-1], matrix.shape[-1])


@jax.custom_vjp
def _matmul(x: Float[Array, "pixels inputs"], matrix: Float[Array, "inputs outputs"]) -> Float[Array, "pixels outputs"]:
    """`x @ matrix`, whose own gradient would have XLA:CPU transpose the pixels."""
    return x @ matrix


def _matmul_forward(
    x: Float[Array, "pixels inputs"], matrix: Float[Array, "inputs outputs"]
) -> tuple[Float[Array, "pixels outputs"], tuple[Float[Array, "pixels inputs"], Float[Array, "inputs outputs"]]]:
    return x @ matrix, (x, matrix)


def _matmul_backward(
    saved: tuple[Float[Array, "pixels inputs"], Float[Array, "inputs outputs"]], dy: Float[Array, "pixels outputs"]
) -> tuple[Float[Array, "pixels inputs"], Float[Array, "inputs outputs"]]:
    x, matrix = saved
    return lax.dot_general(dy, matrix, (((1,), (1,)), ((), ()))), winograd.over_pixels(x, dy)


_matmul.defvjp(_matmul_forward, _matmul_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _windowed(
    x: Float[Array, "n h w inputs"], kernel: Float[Array, "k k inputs outputs"], stride: int, pads: Pads
) -> Float[Array, "n rows columns outputs"]:
    if _tiled(x, kernel, stride, pads, _WIDE):
        return winograd.convolve(x, kernel, pads)
    return _native(x, kernel, stride, pads)


def _tiled(
    x: Float[Array, "n h w inputs"], kernel: Float[Array, "k k inputs outputs"], stride: int, pads: Pads, channels: int
) -> bool:
    """Whether Winograd's way is exact (its sums would show in bfloat16) and pays, from so many channels on the wider side."""
    if kernel.shape[0] != 3 or stride != 1 or kernel.dtype.itemsize < 4:
        return False
    rows, columns = output_size(x.shape, 3, 1, pads)
    wide_enough = min(kernel.shape[2:]) >= 64 and max(kernel.shape[2:]) >= channels
    return wide_enough and x.shape[0] * rows * columns * kernel.size >= _WORTH


def _windowed_forward(
    x: Float[Array, "n h w inputs"], kernel: Float[Array, "k k inputs outputs"], stride: int, pads: Pads
) -> tuple[Float[Array, "n rows columns outputs"], tuple[Float[Array, "n h w inputs"], Float[Array, "k k inputs outputs"]]]:
    return _windowed(x, kernel, stride, pads), (x, kernel)


def _windowed_backward(
    stride: int,
    pads: Pads,
    saved: tuple[Float[Array, "n h w inputs"], Float[Array, "k k inputs outputs"]],
    dy: Float[Array, "n rows columns outputs"],
) -> tuple[Float[Array, "n h w inputs"], Float[Array, "k k inputs outputs"]]:
    x, kernel = saved
    if _tiled(x, kernel, stride, pads, 64):
        dkernel = on_each_device(partial(winograd.weight_gradient, pads), (x, dy), add=True)
    elif dy.size <= _FEW_PIXELS * dy.shape[-1]:
        (dkernel,) = jax.linear_transpose(lambda kernel: _native(x, kernel, stride, pads), kernel)(dy)
    else:
        dkernel = on_each_device(partial(_weight_gradient, kernel.shape[0], stride, pads), (x, dy), add=True)
    if _tiled(x, kernel, stride, pads, _WIDE):
        return winograd.transpose(dy, kernel, gradient_pads(x.shape, dy.shape, 3, 1, pads)), dkernel
    (dx,) = jax.linear_transpose(lambda x: _native(x, kernel, stride, pads), x)(dy)
    return dx, dkernel


_windowed.defvjp(_windowed_forward, _windowed_backward)


def _weight_gradient(
    size: int, stride: int, pads: Pads, x: Float[Array, "n h w inputs"], dy: Float[Array, "n rows columns outputs"]
) -> Float[Array, "{size} {size} inputs outputs"]:
    """Patches times dy, summed over groups of images whose patches fit `_PATCHES` bytes.

    The pixels are the patches' last axis, which XLA:CPU multiplies fastest. A stride's phases are apart before the loop over taps,
    which compiles one tap and not size * size, so that a tap is one slice.
    """
    n, _, _, inputs = x.shape
    _, rows, columns, outputs = dy.shape
    taps = size * size
    reach = [(length - 1 + -(-size // stride)) * stride for length in (rows, columns)]
    ends = [(before, to - before - length) for (before, _), to, length in zip(pads, reach, x.shape[1:3], strict=True)]
    at_once = images_at_once(n, taps * inputs * rows * columns * x.dtype.itemsize, _PATCHES)
    wide = jnp.promote_types(x.dtype, jnp.float32)

    def add(
        total: Float[Array, "taps_inputs outputs"],
        group: tuple[Float[Array, "m h w inputs"], Float[Array, "m rows columns outputs"]],
    ) -> tuple[Float[Array, "taps_inputs outputs"], None]:
        part, slope = group
        whole = pad(part, (ends[0], ends[1])).reshape(at_once, reach[0] // stride, stride, reach[1] // stride, stride, inputs)
        phases = whole.transpose(2, 4, 5, 0, 1, 3)

        def tap(index: Int[Array, ""]) -> Float[Array, "inputs pixels"]:
            i, j = index // size, index % size
            start = (i % stride, j % stride, 0, 0, i // stride, j // stride)
            return lax.dynamic_slice(phases, start, (1, 1, inputs, at_once, rows, columns)).reshape(inputs, -1)

        patches = lax.map(tap, jnp.arange(taps)).reshape(taps * inputs, -1)
        return total + jnp.matmul(patches, slope.reshape(-1, outputs), preferred_element_type=wide), None

    groups = [array.reshape(-1, at_once, *array.shape[1:]) for array in (x, dy)]
    total, _ = lax.scan(add, jnp.zeros((taps * inputs, outputs), wide), (groups[0], groups[1]))
    return total.astype(x.dtype).reshape(size, size, inputs, outputs)
