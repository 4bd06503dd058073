"""The stages of the EfficientNets: stem, inverted bottlenecks, and the last convolution before pooling."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fteng.backbones.backbone import Pass
from fteng.backbones.convolution import Padding
from fteng.backbones.layers import BatchNorm, Conv, DepthwiseConv


class Style(NamedTuple):
    """In what the networks differ apart from their size.

    activation: of every layer but the projections; same: padded as TensorFlow does, the odd zero after, else with size // 2 zeros
    on every side; epsilon: of batch norm.
    """

    activation: Callable[[jax.Array], jax.Array]
    same: bool
    epsilon: float

    def padding(self, size: int) -> Padding:
        """What a filter of that size needs."""
        return "SAME" if self.same else size // 2


class Block(NamedTuple):
    """One inverted bottleneck.

    group, position: its row in the paper's table, from 1, and its place in that row, from 0; expand: factor on its inputs;
    squeezed: channels inside its squeeze-and-excitation, 0 for none.
    """

    group: int
    position: int
    size: int
    stride: int
    expand: int
    inputs: int
    outputs: int
    squeezed: int


class Stem(nnx.Module):
    """Images (n, h, w, 3) -> (n, ceil(h / 2), ceil(w / 2), outputs)."""

    def __init__(self, outputs: int, style: Style, *, rng: np.random.Generator):
        self.activation = style.activation
        self.conv = Conv(3, outputs, size=3, stride=2, padding=style.padding(3), gain=1.0, rng=rng)
        self.norm = BatchNorm(outputs, epsilon=style.epsilon)

    def __call__(self, x: jax.Array, how: Pass) -> jax.Array:
        """See the class."""
        return self.activation(self.norm(self.conv(x), how))


class SqueezeExcite(nnx.Module):
    """Each channel times a gate in (0, 1) that sees the means of all channels (Hu et al. 2018): (n, h, w, c) -> (n, h, w, c)."""

    def __init__(self, channels: int, squeezed: int, style: Style, *, rng: np.random.Generator):
        self.activation = style.activation
        self.reduce = Conv(channels, squeezed, bias=True, rng=rng)
        self.expand = Conv(squeezed, channels, bias=True, gain=1.0, rng=rng)

    def __call__(self, x: jax.Array) -> jax.Array:
        """See the class."""
        means = jnp.mean(x, axis=(1, 2), keepdims=True)
        return x * jax.nn.sigmoid(self.expand(self.activation(self.reduce(means))))


class MBConv(nnx.Module):
    """Inverted bottleneck (Sandler et al. 2018): (n, h, w, inputs) -> (n, ceil(h / stride), ceil(w / stride), outputs)."""

    def __init__(self, block: Block, style: Style, *, rng: np.random.Generator):
        wide = block.inputs * block.expand
        self.activation = style.activation
        self.residual = block.stride == 1 and block.inputs == block.outputs
        self.expands, self.squeezes = block.expand > 1, block.squeezed > 0
        if self.expands:
            self.expand = Conv(block.inputs, wide, gain=1.0, rng=rng)
            self.expand_norm = BatchNorm(wide, epsilon=style.epsilon)
        self.depthwise = DepthwiseConv(wide, size=block.size, stride=block.stride, padding=style.padding(block.size), rng=rng)
        self.depthwise_norm = BatchNorm(wide, epsilon=style.epsilon)
        if self.squeezes:
            self.squeeze = SqueezeExcite(wide, block.squeezed, style, rng=rng)
        self.project = Conv(wide, block.outputs, rng=rng)
        self.project_norm = BatchNorm(block.outputs, epsilon=style.epsilon)

    def __call__(self, x: jax.Array, how: Pass) -> jax.Array:
        """See the class."""
        y = x
        if self.expands:
            y = self.activation(self.expand_norm(self.expand(y), how))
        y = self.activation(self.depthwise_norm(self.depthwise(y), how))
        if self.squeezes:
            y = self.squeeze(y)
        y = self.project_norm(self.project(y), how)
        return x + y if self.residual else y


class ConvHead(nnx.Module):
    """The last features before pooling: (n, h, w, inputs) -> (n, h, w, outputs)."""

    def __init__(self, inputs: int, outputs: int, style: Style, *, rng: np.random.Generator):
        self.activation = style.activation
        self.conv = Conv(inputs, outputs, gain=1.0, rng=rng)
        self.norm = BatchNorm(outputs, epsilon=style.epsilon)

    def __call__(self, x: jax.Array, how: Pass) -> jax.Array:
        """See the class."""
        return self.activation(self.norm(self.conv(x), how))
