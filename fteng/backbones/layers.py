"""The layers stages are made of: NNX modules over the convolution room, and norms with explicit modes.

A norm's parameters are `scale` and `bias`, a matrix or filter is a `kernel`: freezing and weight decay go by these names.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jaxtyping import Array, Float

from fteng.backbones import convolution
from fteng.backbones.backbone import BatchNormMode, Pass
from fteng.backbones.convolution import Padding


class Conv(nnx.Module):
    """A convolution: (n, h, w, inputs) -> (n, rows, columns, outputs).

    kernel: (size, size, inputs, outputs), at random with variance gain / fan in: gain is 2 where the input is rectified and
    1 where it is not (He et al. 2015). bias: (outputs,), zeros, where asked for. padding: see the convolution room.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        size: int = 1,
        stride: int = 1,
        padding: Padding = "SAME",
        bias: bool = False,
        gain: float = 2.0,
        rng: np.random.Generator,
    ):
        self.stride = stride
        self.padding: Padding = padding
        deviation = (gain / (size**2 * inputs)) ** 0.5
        self.kernel = nnx.Param(_normal(rng, (size, size, inputs, outputs), deviation))
        if bias:
            self.bias = nnx.Param(jnp.zeros((outputs,)))

    def __call__(self, x: Float[Array, "n h w inputs"]) -> Float[Array, "n rows columns outputs"]:
        """See the class."""
        y = convolution.dense(x, self.kernel[...], self.stride, self.padding)
        return y + self.bias[...] if hasattr(self, "bias") else y


class DepthwiseConv(nnx.Module):
    """One filter a channel: (n, h, w, c) -> (n, rows, columns, c).

    kernel: (size, size, 1, c); bias: (c,), zeros, where asked for. padding: see the convolution room.
    """

    def __init__(
        self,
        channels: int,
        *,
        size: int,
        stride: int = 1,
        padding: Padding = "SAME",
        bias: bool = False,
        rng: np.random.Generator,
    ):
        self.stride = stride
        self.padding: Padding = padding
        self.kernel = nnx.Param(_normal(rng, (size, size, 1, channels), (2.0 / size**2) ** 0.5))
        if bias:
            self.bias = nnx.Param(jnp.zeros((channels,)))

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n rows columns c"]:
        """See the class."""
        y = convolution.depthwise(x, self.kernel[...], self.stride, self.padding)
        return y + self.bias[...] if hasattr(self, "bias") else y


class Dense(nnx.Module):
    """A matrix and a bias over the last axis. kernel: (inputs, outputs), at random with variance gain / inputs."""

    def __init__(self, inputs: int, outputs: int, *, gain: float = 1.0, rng: np.random.Generator):
        self.kernel = nnx.Param(_normal(rng, (inputs, outputs), (gain / inputs) ** 0.5))
        self.bias = nnx.Param(jnp.zeros((outputs,)))

    def __call__(self, x: Float[Array, "*place inputs"]) -> Float[Array, "*place outputs"]:
        """See the class."""
        return x @ self.kernel[...] + self.bias[...]


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last (Ioffe and Szegedy 2015).

    scale, bias, mean, var: (c,). The running variance follows the biased variance, as Flax does and torch does not.
    """

    def __init__(self, channels: int, *, epsilon: float):
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones((channels,)))
        self.bias = nnx.Param(jnp.zeros((channels,)))
        self.mean = nnx.BatchStat(jnp.zeros((channels,)))
        self.var = nnx.BatchStat(jnp.ones((channels,)))

    def __call__(self, x: Float[Array, "n h w c"], how: Pass) -> Float[Array, "n h w c"]:
        """Normalises with what `how.batch_norm` says."""
        mean, var = self.mean[...], self.var[...]
        if how.batch_norm is BatchNormMode.BATCH:
            old_mean, old_var = mean, var
            mean, var = moments(x)
            self.mean[...] = how.momentum * old_mean + (1 - how.momentum) * mean
            self.var[...] = how.momentum * old_var + (1 - how.momentum) * var
        elif how.batch_norm is BatchNormMode.OBSERVE:
            self.mean[...], self.var[...] = moments(x)
        factor = self.scale[...] * jax.lax.rsqrt(var + self.epsilon)
        return x * factor + (self.bias[...] - mean * factor)


class LayerNorm(nnx.Module):
    """Normalisation of each place by its own mean and biased variance over channels (Ba et al. 2016). scale, bias: (c,)."""

    def __init__(self, channels: int, *, epsilon: float):
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones((channels,)))
        self.bias = nnx.Param(jnp.zeros((channels,)))

    def __call__(self, x: Float[Array, "*place c"]) -> Float[Array, "*place c"]:
        """See the class."""
        centred = x - jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + self.epsilon) * self.scale[...] + self.bias[...]


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Exact GELU (Hendrycks and Gimpel 2016) by erf, as torch has it: by erfc, as jax.nn.gelu has it, it takes 2.5 times as long on
    XLA:CPU."""
    return 0.5 * x * (1 + jax.lax.erf(x * 0.5**0.5))


def dropout(x: Float[Array, "*shape"], rate: float, how: Pass) -> Float[Array, "*shape"]:
    """Each value is zero with probability `rate`, the others grow to keep the mean (Srivastava et al. 2014); without a key, x."""
    if how.key is None:
        return x
    return jnp.where(jax.random.bernoulli(how.key, 1 - rate, x.shape), x / (1 - rate), 0)


def max_pool(x: Float[Array, "n h w c"], size: int, stride: int, padding: int = 0) -> Float[Array, "n rows columns c"]:
    """The largest value of each window, as torch has it: `padding` on every side, windows that stand out left away.

    A maximum of shifted slices: XLA:CPU's own pooling is slow backward (select and scatter).
    """
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(x, around, constant_values=-jnp.inf) if padding else x
    rows, columns = ((padded.shape[axis] - size) // stride + 1 for axis in (1, 2))
    best: Float[Array, "n rows columns c"] | None = None
    for i in range(size):
        for j in range(size):
            part = padded[:, i : i + (rows - 1) * stride + 1 : stride, j : j + (columns - 1) * stride + 1 : stride]
            best = part if best is None else jnp.maximum(best, part)
    assert best is not None
    return best


def _normal(rng: np.random.Generator, shape: tuple[int, ...], deviation: float) -> Float[Array, "..."]:
    draw = functools.partial(_draw, rng, shape, deviation)
    # Where shapes alone are asked for, drawing VGG16's 138 million numbers would take seconds.
    if isinstance(jnp.zeros(()), Tracer):
        return jax.pure_callback(draw, jax.ShapeDtypeStruct(shape, jnp.float32))
    return jnp.asarray(draw())


def _draw(rng: np.random.Generator, shape: tuple[int, ...], deviation: float) -> np.ndarray:
    return deviation * rng.standard_normal(shape, np.float32)


def moments(x: Float[Array, "*batch c"]) -> tuple[Float[Array, "c"], Float[Array, "c"]]:
    """Mean and biased variance over all axes but the last."""
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, axis=axes)
    return mean, jnp.mean(jnp.square(x - mean), axis=axes)
