"""The layers stages are made of: NNX modules over the convolution room, and a batch norm with explicit modes."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from fteng.backbones import convolution
from fteng.backbones.backbone import BatchNormMode


class Conv(nnx.Module):
    """A convolution without bias, padding SAME: (n, h, w, inputs) -> (n, ceil(h / stride), ceil(w / stride), outputs).

    kernel: (size, size, inputs, outputs), at random with variance gain / fan in: gain is 2 where the input is rectified and
    1 where it is not (He et al. 2015).
    """

    def __init__(self, inputs: int, outputs: int, *, size: int = 1, stride: int = 1, gain: float = 2.0, rng: np.random.Generator):
        self.stride = stride
        deviation = (gain / (size**2 * inputs)) ** 0.5
        self.kernel = nnx.Param(_normal(rng, (size, size, inputs, outputs), deviation))

    def __call__(self, x: Float[Array, "n h w inputs"]) -> Float[Array, "n rows columns outputs"]:
        """See the class."""
        return convolution.dense(x, self.kernel[...], self.stride)


class DepthwiseConv(nnx.Module):
    """One filter a channel, no bias, padding SAME: (n, h, w, c) -> (n, ceil(h / stride), ceil(w / stride), c).

    kernel: (size, size, 1, c).
    """

    def __init__(self, channels: int, *, size: int, stride: int = 1, rng: np.random.Generator):
        self.stride = stride
        self.kernel = nnx.Param(_normal(rng, (size, size, 1, channels), (2.0 / size**2) ** 0.5))

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n rows columns c"]:
        """See the class."""
        return convolution.depthwise(x, self.kernel[...], self.stride)


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

    def __call__(
        self, x: Float[Array, "n h w c"], mode: BatchNormMode, momentum: float | Float[Array, ""]
    ) -> Float[Array, "n h w c"]:
        """`momentum`: share of the running statistics that BATCH keeps."""
        mean, var = self.mean[...], self.var[...]
        if mode is BatchNormMode.BATCH:
            old_mean, old_var = mean, var
            mean, var = moments(x)
            self.mean[...] = momentum * old_mean + (1 - momentum) * mean
            self.var[...] = momentum * old_var + (1 - momentum) * var
        elif mode is BatchNormMode.OBSERVE:
            self.mean[...], self.var[...] = moments(x)
        factor = self.scale[...] * jax.lax.rsqrt(var + self.epsilon)
        return x * factor + (self.bias[...] - mean * factor)


def _normal(rng: np.random.Generator, shape: tuple[int, ...], deviation: float) -> Float[Array, "..."]:
    return jnp.asarray(deviation * rng.standard_normal(shape, np.float32))


def moments(x: Float[Array, "*batch c"]) -> tuple[Float[Array, "c"], Float[Array, "c"]]:
    """Mean and biased variance over all axes but the last."""
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, axis=axes)
    return mean, jnp.mean(jnp.square(x - mean), axis=axes)
