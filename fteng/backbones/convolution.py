"""Convolutions with padding SAME, fast on the platform they run on.

XLA's CPU backend has no fast depthwise convolution and no fast weight gradient. There a depthwise convolution is k * k shifted
multiply-adds, which fuse into one loop, and a 1x1 convolution is a matrix product of all pixels. Elsewhere XLA's own runs.

The platform is JAX's default backend at trace time. `jax.lax.platform_dependent` would also choose well for a CPU beside a GPU,
at the price of tracing every convolution twice; there the native convolution is right too, only slow.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

# The output of padding SAME: one place a stride, the last one where the image ends earlier.
Dense = Float[Array, "n (h+{stride}-1)//{stride} (w+{stride}-1)//{stride} outputs"]
Depthwise = Float[Array, "n (h+{stride}-1)//{stride} (w+{stride}-1)//{stride} c"]


def dense(x: Float[Array, "n h w inputs"], kernel: Float[Array, "k k inputs outputs"], stride: int) -> Dense:
    """Every output channel sees every input channel.

    On a CPU it needs k * k times the memory of its input if k > 1: made for stems, whose input has 3 channels.
    """
    if jax.default_backend() != "cpu":
        return native(x, kernel, stride)
    size = kernel.shape[0]
    if size == 1 and stride == 1:
        return _dense(x, kernel[0, 0])
    h, w = _output_size(x, stride)
    padded = _pad_same(x, size, stride)
    patches = jnp.concatenate([_window(padded, i, j, h, w, stride) for i in range(size) for j in range(size)], axis=-1)
    return _dense(patches, kernel.reshape(-1, kernel.shape[-1]))


def depthwise(x: Float[Array, "n h w c"], kernel: Float[Array, "k k 1 c"], stride: int) -> Depthwise:
    """Every channel is filtered by itself."""
    if jax.default_backend() != "cpu":
        return native(x, kernel, stride)
    return _depthwise(x, kernel, stride)


def native(x: Float[Array, "n h w c"], kernel: Float[Array, "k k inputs outputs"], stride: int) -> Dense:
    """XLA's own convolution; depthwise if the kernel has one input channel and x has more."""
    groups = x.shape[-1] // kernel.shape[2]
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=layout, feature_group_count=groups)


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
    return lax.dot_general(dy, matrix, (((1,), (1,)), ((), ()))), lax.dot_general(x, dy, (((0,), (0,)), ((), ())))


_matmul.defvjp(_matmul_forward, _matmul_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise(x: Float[Array, "n h w c"], kernel: Float[Array, "k k 1 c"], stride: int) -> Depthwise:
    size = kernel.shape[0]
    return _shifted_sum(_pad_same(x, size, stride), kernel[:, :, 0], _output_size(x, stride), stride)


def _depthwise_forward(
    x: Float[Array, "n h w c"], kernel: Float[Array, "k k 1 c"], stride: int
) -> tuple[Depthwise, tuple[Float[Array, "n h w c"], Float[Array, "k k 1 c"]]]:
    return _depthwise(x, kernel, stride), (x, kernel)


def _depthwise_backward(
    stride: int, saved: tuple[Float[Array, "n h w c"], Float[Array, "k k 1 c"]], dy: Depthwise
) -> tuple[Float[Array, "n h w c"], Float[Array, "k k 1 c"]]:
    x, kernel = saved
    return _input_gradient(x.shape, kernel, stride, dy), _weight_gradient(x, kernel.shape[0], stride, dy)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _input_gradient(
    shape: tuple[int, ...], kernel: Float[Array, "k k 1 c"], stride: int, dy: Float[Array, "n rows columns c"]
) -> Float[Array, "n h w c"]:
    """The transposed convolution: dy spread out by the stride, under the kernel turned round."""
    size = kernel.shape[0]
    spread = [(0, 0, 0)]
    for axis in (1, 2):
        before = size - 1 - _same_pads(shape[axis], size, stride)[0]
        after = shape[axis] + size - 1 - before - ((dy.shape[axis] - 1) * stride + 1)
        spread.append((before, after, stride - 1))
    padded = lax.pad(dy, jnp.zeros((), dy.dtype), (*spread, (0, 0, 0)))
    return _shifted_sum(padded, kernel[::-1, ::-1, 0], (shape[1], shape[2]), 1)


def _weight_gradient(x: Float[Array, "n h w c"], size: int, stride: int, dy: Depthwise) -> Float[Array, "{size} {size} 1 c"]:
    """Of every tap, the sum over images, rows and columns of the shifted input times dy.

    One image at a time: on six layers of EfficientNet-Lite0 it took a third to a sixth of the time of the whole batch at once. The
    loop over taps is there to compile one tap and not size * size.
    """
    _, h, w, c = dy.shape

    def add(
        total: Float[Array, "taps c"], image: tuple[Float[Array, "h w c"], Float[Array, "rows columns c"]]
    ) -> tuple[Float[Array, "taps c"], None]:
        one, slope = image
        padded = _pad_same(one[None], size, stride)[0]

        def tap(index: Int[Array, ""]) -> Float[Array, "c"]:
            window = ((h - 1) * stride + 1, (w - 1) * stride + 1, c)
            shifted = lax.dynamic_slice(padded, (index // size, index % size, 0), window)[::stride, ::stride]
            return jnp.sum(jnp.sum(shifted * slope, axis=0), axis=0)

        return total + lax.map(tap, jnp.arange(size * size)), None

    total, _ = lax.scan(add, jnp.zeros((size * size, c), x.dtype), (x, dy))
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


def _output_size(x: Float[Array, "n h w c"], stride: int) -> tuple[int, int]:
    return -(-x.shape[1] // stride), -(-x.shape[2] // stride)


def _same_pads(length: int, size: int, stride: int) -> tuple[int, int]:
    """Zeros before and after, as TensorFlow's and XLA's SAME has them: an odd one comes after."""
    total = max((-(-length // stride) - 1) * stride + size - length, 0)
    return total // 2, total - total // 2


def _pad_same(x: Float[Array, "n h w c"], size: int, stride: int) -> Float[Array, "n padded_h padded_w c"]:
    return jnp.pad(x, ((0, 0), _same_pads(x.shape[1], size, stride), _same_pads(x.shape[2], size, stride), (0, 0)))
