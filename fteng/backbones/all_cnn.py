"""All-CNN-C for CIFAR-10: Springenberg, Dosovitskiy, Brox and Riedmiller 2014 (arXiv 1412.6806), table 1 and section 3.1.

8 stages `conv1` ... `conv8`, each a convolution and ReLU; strides stand where others pool. Dropout as the paper has it: 0.2 on the
image, 0.5 after the two convolutions of stride 2.

The paper ends with a 1x1 convolution to the classes and an average over all places. Both are linear, so they are here in the other
order: the pooled features of `conv8` and a dense head, the same function with the same numbers. The ReLU that the paper's table
puts between them, and that no known implementation has, is left out.

The paper does not speak of padding. Its table averages over 6 x 6 places: from 32 px, zeros all round every 3x3 convolution give
32, 16, 8, and only the last 3x3 one without them gives 6. So `conv7` has none, as in DeepOBS.

The authors published no weights; ours are in torch's layout, so that a plain torch.nn.Sequential reads them. Images are scaled by
CIFAR-10's mean and deviation of each channel; the paper's global contrast normalisation and ZCA whitening are not done.
"""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from fteng.backbones.backbone import Pass, Preprocess
from fteng.backbones.layers import Conv, dropout
from fteng.backbones.naming import Slots, torch_conv, torch_head, torch_naming
from fteng.backbones.network import Network, Stage, make_network

# Of the 50,000 training images.
_CIFAR10 = Preprocess((125.3, 123.0, 113.9), (63.0, 62.1, 66.7), "RGB", "bilinear", 32)


class _Layer(NamedTuple):
    """before, after: dropout rates of input and output."""

    inputs: int
    outputs: int
    size: int = 3
    stride: int = 1
    padding: int = 1
    before: float = 0.0
    after: float = 0.0


_LAYERS = (
    _Layer(3, 96, before=0.2),
    _Layer(96, 96),
    _Layer(96, 96, stride=2, after=0.5),
    _Layer(96, 192),
    _Layer(192, 192),
    _Layer(192, 192, stride=2, after=0.5),
    _Layer(192, 192, padding=0),
    _Layer(192, 192, size=1, padding=0),
)


class ConvStage(nnx.Module):
    """Convolution and ReLU, dropout where the layer has it: (n, h, w, inputs) -> (n, rows, columns, outputs).

    rows, columns: as h, w; half of them, rounded up, at stride 2; two less where a 3x3 convolution has no padding.
    """

    def __init__(self, layer: _Layer, *, rng: np.random.Generator):
        self.before, self.after = layer.before, layer.after
        gain = 1.0 if layer.inputs == 3 else 2.0
        self.conv = Conv(
            layer.inputs,
            layer.outputs,
            size=layer.size,
            stride=layer.stride,
            padding=layer.padding,
            bias=True,
            gain=gain,
            rng=rng,
        )

    def __call__(self, x: jax.Array, how: Pass) -> jax.Array:
        """See the class."""
        if self.before:
            x = dropout(x, self.before, how)
        y = jax.nn.relu(self.conv(x))
        return dropout(y, self.after, how) if self.after else y


def all_cnn_c() -> Network:
    """1.4 M parameters, 32 px, CIFAR-10 error 9.08 %, 7.25 % with augmentation (the paper, by its own preprocessing)."""
    stages = [Stage(f"conv{n}", layer.outputs, partial(_conv_stage, layer)) for n, layer in enumerate(_LAYERS, 1)]
    groups = {"size32": ("conv1", "conv2"), "size16": ("conv3", "conv4", "conv5"), "size8": ("conv6", "conv7", "conv8")}
    return make_network("all_cnn_c", stages, groups=groups, namings=(torch_naming("fteng", _slots(), _CIFAR10),))


def _conv_stage(layer: _Layer, rng: np.random.Generator) -> ConvStage:
    return ConvStage(layer, rng=rng)


def _slots() -> Slots:
    for stage in range(len(_LAYERS)):
        yield from torch_conv(f"conv{stage + 1}", stage, "conv", bias=True)
    yield from torch_head("head")
