"""How files name a network's tensors: one naming each for torchvision, timm, Keras, a package."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fteng.backbones.backbone import Preprocess

# Preprocessing that several publishers share, on the 0..255 scale.
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_CONV, _LINEAR, _VECTOR = (2, 3, 1, 0), (1, 0), (0,)


class Slot(NamedTuple):
    """Where a tensor of a file belongs.

    collection: `params` or `stats` of a stage, or `head`, the source classifier, which a file may lack; path: in the stage's
    tree; axes: the file's tensor, transposed by these, is ours; view: shape to give the file's tensor first, and then file_shape is
    the one it has in the file.
    """

    collection: str
    stage: int
    path: tuple[str, ...]
    axes: tuple[int, ...]
    view: tuple[int, ...] = ()
    file_shape: tuple[int, ...] = ()


class Naming(NamedTuple):
    """One publisher's names of all tensors of a network.

    slots: tensor name -> place; unused: names that such files have and the network deliberately ignores; preprocess: how weights
    published so want their images.
    """

    name: str
    slots: Mapping[str, Slot]
    unused: frozenset[str]
    preprocess: Preprocess


Slots = Iterator[tuple[str, Slot]]


def torch_conv(prefix: str, stage: int, *path: str, bias: bool = False) -> Slots:
    """`prefix.weight` (outputs, inputs, k, k), also of a depthwise convolution, as a kernel at `path`."""
    yield f"{prefix}.weight", Slot("params", stage, (*path, "kernel"), _CONV)
    if bias:
        yield f"{prefix}.bias", Slot("params", stage, (*path, "bias"), _VECTOR)


def torch_linear(prefix: str, stage: int, *path: str) -> Slots:
    """`prefix.weight` (outputs, inputs) and `prefix.bias`."""
    yield f"{prefix}.weight", Slot("params", stage, (*path, "kernel"), _LINEAR)
    yield f"{prefix}.bias", Slot("params", stage, (*path, "bias"), _VECTOR)


def torch_layer_norm(prefix: str, stage: int, *path: str) -> Slots:
    """`prefix.weight` and `prefix.bias` (channels,)."""
    yield f"{prefix}.weight", Slot("params", stage, (*path, "scale"), _VECTOR)
    yield f"{prefix}.bias", Slot("params", stage, (*path, "bias"), _VECTOR)


def torch_batch_norm(prefix: str, stage: int, *path: str) -> Slots:
    """A layer norm's, and `running_mean` and `running_var`."""
    yield from torch_layer_norm(prefix, stage, *path)
    yield f"{prefix}.running_mean", Slot("stats", stage, (*path, "mean"), _VECTOR)
    yield f"{prefix}.running_var", Slot("stats", stage, (*path, "var"), _VECTOR)


def torch_head(prefix: str) -> Slots:
    """The source classifier as a linear layer."""
    yield f"{prefix}.weight", Slot("head", 0, ("kernel",), _LINEAR)
    yield f"{prefix}.bias", Slot("head", 0, ("bias",), _VECTOR)


def torch_naming(name: str, slots: Slots, preprocess: Preprocess, unused: frozenset[str] = frozenset()) -> Naming:
    """A naming of torch files, which carry a counter in each batch norm, kept there for averaging without momentum."""
    known = dict(slots)
    counters = {f"{key.removesuffix('running_mean')}num_batches_tracked" for key in known if key.endswith("running_mean")}
    return Naming(name, known, unused | counters, preprocess)


def leaf_of(trees: Mapping[str, Any], slot: Slot) -> Any:
    """The leaf that a slot names; KeyError or IndexError where there is none."""
    node = trees[slot.collection][slot.stage]
    for key in slot.path:
        node = node[key]
    return node
