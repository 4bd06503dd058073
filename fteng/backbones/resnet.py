"""ResNet-18 and ResNet-50 (He et al. 2016), version 1.5: a bottleneck has its stride in the 3x3 convolution, as torch has it.

`stem`, then one stage a residual block, `layer1_block1` to `layer4_block3`; groups `layer1` to `layer4`.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from fteng.backbones.backbone import Pass, Preprocess
from fteng.backbones.layers import BatchNorm, Conv, max_pool
from fteng.backbones.naming import IMAGENET_MEAN, IMAGENET_STD, Slots, torch_batch_norm, torch_conv, torch_head, torch_naming
from fteng.backbones.network import Network, Stage, make_network

_EPSILON = 1e-5
_STEM = 64
_WIDER = 4


class _Block(NamedTuple):
    """layer, position: its coarse stage and its place there, from 1; width: channels of its inner convolutions."""

    layer: int
    position: int
    stride: int
    inputs: int
    width: int
    outputs: int

    @property
    def has_shortcut(self) -> bool:
        return self.stride != 1 or self.inputs != self.outputs


class Stem(nnx.Module):
    """Images (n, h, w, 3) -> (n, h / 4, w / 4, 64), rounded up."""

    def __init__(self, *, rng: np.random.Generator):
        self.conv = Conv(3, _STEM, size=7, stride=2, padding=3, rng=rng)
        self.norm = BatchNorm(_STEM, epsilon=_EPSILON)

    def __call__(self, x: jax.Array, how: Pass) -> jax.Array:
        """See the class."""
        return max_pool(jax.nn.relu(self.norm(self.conv(x), how)), 3, 2, padding=1)


class _Residual(nnx.Module):
    """What both kinds of block share: the way around, a convolution where shape or stride changes."""

    def __init__(self, block: _Block, *, rng: np.random.Generator):
        self.changes = block.has_shortcut
        if self.changes:
            self.shortcut = Conv(block.inputs, block.outputs, stride=block.stride, gain=1.0, rng=rng)
            self.shortcut_norm = BatchNorm(block.outputs, epsilon=_EPSILON)

    def around(self, x: jax.Array, how: Pass) -> jax.Array:
        """(n, h, w, inputs) -> (n, ceil(h / stride), ceil(w / stride), outputs)."""
        return self.shortcut_norm(self.shortcut(x), how) if self.changes else x


class BasicBlock(_Residual):
    """Two 3x3 convolutions: (n, h, w, inputs) -> (n, ceil(h / stride), ceil(w / stride), outputs)."""

    def __init__(self, block: _Block, *, rng: np.random.Generator):
        super().__init__(block, rng=rng)
        self.conv1 = Conv(block.inputs, block.width, size=3, stride=block.stride, padding=1, rng=rng)
        self.norm1 = BatchNorm(block.width, epsilon=_EPSILON)
        self.conv2 = Conv(block.width, block.outputs, size=3, padding=1, rng=rng)
        self.norm2 = BatchNorm(block.outputs, epsilon=_EPSILON)

    def __call__(self, x: jax.Array, how: Pass) -> jax.Array:
        """See the class."""
        y = jax.nn.relu(self.norm1(self.conv1(x), how))
        return jax.nn.relu(self.norm2(self.conv2(y), how) + self.around(x, how))


class Bottleneck(_Residual):
    """1x1 to fewer channels, 3x3, 1x1 to more: (n, h, w, inputs) -> (n, ceil(h / stride), ceil(w / stride), outputs)."""

    def __init__(self, block: _Block, *, rng: np.random.Generator):
        super().__init__(block, rng=rng)
        self.conv1 = Conv(block.inputs, block.width, rng=rng)
        self.norm1 = BatchNorm(block.width, epsilon=_EPSILON)
        self.conv2 = Conv(block.width, block.width, size=3, stride=block.stride, padding=1, rng=rng)
        self.norm2 = BatchNorm(block.width, epsilon=_EPSILON)
        self.conv3 = Conv(block.width, block.outputs, rng=rng)
        self.norm3 = BatchNorm(block.outputs, epsilon=_EPSILON)

    def __call__(self, x: jax.Array, how: Pass) -> jax.Array:
        """See the class."""
        y = jax.nn.relu(self.norm1(self.conv1(x), how))
        y = jax.nn.relu(self.norm2(self.conv2(y), how))
        return jax.nn.relu(self.norm3(self.conv3(y), how) + self.around(x, how))


def resnet18() -> Network:
    """11.7 M parameters, 224 px, ImageNet top-1 69.8 %."""
    return _network("resnet18", BasicBlock, (2, 2, 2, 2), factor=1, convolutions=2)


def resnet50() -> Network:
    """25.6 M parameters, 224 px, ImageNet top-1 76.1 %."""
    return _network("resnet50", Bottleneck, (3, 4, 6, 3), factor=_WIDER, convolutions=3)


def _network(
    name: str, kind: Callable[..., BasicBlock | Bottleneck], counts: Sequence[int], *, factor: int, convolutions: int
) -> Network:
    """counts: blocks of each coarse stage; factor: a block's outputs over its inner width; convolutions: in a block."""
    blocks = tuple(_blocks(counts, factor))
    names = [f"layer{block.layer}_block{block.position}" for block in blocks]
    stages = [
        Stage("stem", _STEM, lambda rng: Stem(rng=rng)),
        *(Stage(name, block.outputs, partial(_build, kind, block)) for name, block in zip(names, blocks, strict=True)),
    ]
    groups = {
        f"layer{layer}": tuple(name for name, block in zip(names, blocks, strict=True) if block.layer == layer)
        for layer in range(1, len(counts) + 1)
    }
    # timm's files have the same names; those of other recipes want other interpolation and size, and say so in their own config.
    preprocess = Preprocess(IMAGENET_MEAN, IMAGENET_STD, "RGB", "bilinear", 224, 0.875)
    return make_network(
        name, stages, groups=groups, namings=[torch_naming("torchvision", _slots(blocks, convolutions), preprocess)]
    )


def _build(kind: Callable[..., BasicBlock | Bottleneck], block: _Block, rng: np.random.Generator) -> BasicBlock | Bottleneck:
    return kind(block, rng=rng)


def _blocks(counts: Sequence[int], factor: int) -> Iterator[_Block]:
    inputs = _STEM
    for layer, count in enumerate(counts, 1):
        width = _STEM * 2 ** (layer - 1)
        for position in range(1, count + 1):
            stride = 2 if layer > 1 and position == 1 else 1
            yield _Block(layer, position, stride, inputs, width, width * factor)
            inputs = width * factor


def _slots(blocks: Sequence[_Block], convolutions: int) -> Slots:
    """Every tensor of a torch file and where it belongs."""
    yield from torch_conv("conv1", 0, "conv")
    yield from torch_batch_norm("bn1", 0, "norm")
    for stage, block in enumerate(blocks, 1):
        at = f"layer{block.layer}.{block.position - 1}"
        for number in range(1, convolutions + 1):
            yield from torch_conv(f"{at}.conv{number}", stage, f"conv{number}")
            yield from torch_batch_norm(f"{at}.bn{number}", stage, f"norm{number}")
        if block.has_shortcut:
            yield from torch_conv(f"{at}.downsample.0", stage, "shortcut")
            yield from torch_batch_norm(f"{at}.downsample.1", stage, "shortcut_norm")
    yield from torch_head("fc")
