"""ConvNeXt-Tiny (Liu et al. 2022): a ResNet's four stages out of transformer-like blocks.

20 stages: `stem`, `stage1_block1` to `stage4_block3`, `norm`. What halves the image belongs to the first block behind it. The last
norm comes after global pooling, as published. Stochastic depth is left out: a frozen prefix must be a function of its input.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fteng.backbones.backbone import Pass, Preprocess
from fteng.backbones.layers import Conv, Dense, DepthwiseConv, LayerNorm, gelu
from fteng.backbones.naming import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Slot,
    Slots,
    torch_conv,
    torch_head,
    torch_layer_norm,
    torch_linear,
    torch_naming,
)
from fteng.backbones.network import Network, Stage, make_network

_EPSILON = 1e-6
_BLOCKS = (3, 3, 9, 3)
_CHANNELS = (96, 192, 384, 768)


class _Place(NamedTuple):
    """Where a block stands. group, block: from 0; inputs: channels of the stage before."""

    group: int
    block: int
    inputs: int
    channels: int

    @property
    def name(self) -> str:
        return f"stage{self.group + 1}_block{self.block + 1}"

    @property
    def halves(self) -> bool:
        return self.inputs != self.channels


class Stem(nnx.Module):
    """Images (n, h, w, 3) -> (n, h // 4, w // 4, 96)."""

    def __init__(self, *, rng: np.random.Generator):
        self.conv = Conv(3, _CHANNELS[0], size=4, stride=4, padding="VALID", bias=True, gain=1.0, rng=rng)
        self.norm = LayerNorm(_CHANNELS[0], epsilon=_EPSILON)

    def __call__(self, x: jax.Array, _how: Pass) -> jax.Array:
        """See the class."""
        return self.norm(self.conv(x))


class Block(nnx.Module):
    """(n, h, w, inputs) -> (n, h, w, channels), or half of h and w where the channels change.

    gamma: (channels,), the weight of the residual branch (Touvron et al. 2021, "LayerScale"), 1e-6 at a random start.
    """

    def __init__(self, place: _Place, *, rng: np.random.Generator):
        channels = place.channels
        self.halves = place.halves
        if self.halves:
            self.down_norm = LayerNorm(place.inputs, epsilon=_EPSILON)
            self.down = Conv(place.inputs, channels, size=2, stride=2, padding="VALID", bias=True, gain=1.0, rng=rng)
        self.depthwise = DepthwiseConv(channels, size=7, padding=3, bias=True, rng=rng)
        self.norm = LayerNorm(channels, epsilon=_EPSILON)
        self.expand = Dense(channels, 4 * channels, rng=rng)
        self.project = Dense(4 * channels, channels, rng=rng)
        self.gamma = nnx.Param(jnp.full((channels,), 1e-6))

    def __call__(self, x: jax.Array, _how: Pass) -> jax.Array:
        """See the class."""
        if self.halves:
            x = self.down(self.down_norm(x))
        y = self.norm(self.depthwise(x))
        return x + self.gamma[...] * self.project(gelu(self.expand(y)))


class Norm(nnx.Module):
    """What the classifier reads: (n, h, w, 768), pooled and then normalised -> (n, 1, 1, 768)."""

    def __init__(self):
        self.norm = LayerNorm(_CHANNELS[-1], epsilon=_EPSILON)

    def __call__(self, x: jax.Array, _how: Pass) -> jax.Array:
        """See the class."""
        return self.norm(jnp.mean(x, axis=(1, 2), keepdims=True))


def tiny() -> Network:
    """28.6 M parameters, 224 px, ImageNet top-1 82.1 %."""
    places = tuple(_places())
    timm = Preprocess(IMAGENET_MEAN, IMAGENET_STD, "RGB", "bicubic", 224, crop=0.95)
    torchvision = Preprocess(IMAGENET_MEAN, IMAGENET_STD, "RGB", "bilinear", 224, crop=224 / 236)
    return make_network(
        "convnext_tiny",
        [
            Stage("stem", _CHANNELS[0], lambda rng: Stem(rng=rng)),
            *(Stage(place.name, place.channels, partial(_block, place)) for place in places),
            Stage("norm", _CHANNELS[-1], lambda _: Norm()),
        ],
        groups={f"stage{group + 1}": [place.name for place in places if place.group == group] for group in range(len(_BLOCKS))},
        namings=(
            torch_naming("timm", _timm_slots(places), timm),
            torch_naming("torchvision", _torchvision_slots(places), torchvision),
        ),
    )


def _block(place: _Place, rng: np.random.Generator) -> Block:
    return Block(place, rng=rng)


def _places() -> Iterator[_Place]:
    inputs = _CHANNELS[0]
    for group, (count, channels) in enumerate(zip(_BLOCKS, _CHANNELS, strict=True)):
        for block in range(count):
            yield _Place(group, block, inputs, channels)
            inputs = channels


def _timm_slots(places: tuple[_Place, ...]) -> Slots:
    yield from torch_conv("stem.0", 0, "conv", bias=True)
    yield from torch_layer_norm("stem.1", 0, "norm")
    for stage, place in enumerate(places, 1):
        if place.halves:
            yield from torch_layer_norm(f"stages.{place.group}.downsample.0", stage, "down_norm")
            yield from torch_conv(f"stages.{place.group}.downsample.1", stage, "down", bias=True)
        torch = f"stages.{place.group}.blocks.{place.block}"
        yield f"{torch}.gamma", Slot("params", stage, ("gamma",), (0,))
        yield from torch_conv(f"{torch}.conv_dw", stage, "depthwise", bias=True)
        yield from torch_layer_norm(f"{torch}.norm", stage, "norm")
        yield from torch_linear(f"{torch}.mlp.fc1", stage, "expand")
        yield from torch_linear(f"{torch}.mlp.fc2", stage, "project")
    yield from torch_layer_norm("head.norm", len(places) + 1, "norm")
    yield from torch_head("head.fc")


def _torchvision_slots(places: tuple[_Place, ...]) -> Slots:
    """torchvision counts what halves the image and the blocks in turn: features.1, .3, .5 and .7 are blocks."""
    yield from torch_conv("features.0.0", 0, "conv", bias=True)
    yield from torch_layer_norm("features.0.1", 0, "norm")
    for stage, place in enumerate(places, 1):
        if place.halves:
            yield from torch_layer_norm(f"features.{2 * place.group}.0", stage, "down_norm")
            yield from torch_conv(f"features.{2 * place.group}.1", stage, "down", bias=True)
        torch = f"features.{2 * place.group + 1}.{place.block}"
        scale = Slot("params", stage, ("gamma",), (0,), view=(place.channels,), file_shape=(place.channels, 1, 1))
        yield f"{torch}.layer_scale", scale
        yield from torch_conv(f"{torch}.block.0", stage, "depthwise", bias=True)
        yield from torch_layer_norm(f"{torch}.block.2", stage, "norm")
        yield from torch_linear(f"{torch}.block.3", stage, "expand")
        yield from torch_linear(f"{torch}.block.5", stage, "project")
    yield from torch_layer_norm("classifier.0", len(places) + 1, "norm")
    yield from torch_head("classifier.2")
