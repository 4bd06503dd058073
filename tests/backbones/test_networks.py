"""Every network is the published one: the same taps and logits as the original, the published size and work."""

import math
from pathlib import Path
from typing import NamedTuple

import golden_file
import jax
import jax.numpy as jnp
import pytest

from fteng.backbones import convolution
from fteng.backbones.catalogue import BACKBONES, find


class Published(NamedTuple):
    """golden: files of golden/ it must equal; parameters: with the head of so many classes where it has one, as published;
    multiply_adds: billions of one image at its own size, as published; head_features: how many of the last tap's the head reads,
    where not all; slow: more golden files, of what others have shown in parts."""

    golden: tuple[str, ...]
    parameters: int
    multiply_adds: float
    head_features: int | None = None
    slow: tuple[str, ...] = ()
    classes: int = 1000


PUBLISHED = {
    # Work: of the convolutions in the paper's table, by hand, with the average over 6 x 6 places that it states.
    "all_cnn_c": Published(("all_cnn_c",), 1_369_738, 0.2707, classes=10),
    "efficientnet_b0": Published((), 5_288_548, 0.386, slow=("efficientnet_b0_timm", "efficientnet_b0_torchvision")),
    # Work of the Lites: torch's own count. Their authors' 0.407, 0.631 and 0.899 hold three more for every output of a convolution.
    "efficientnet_lite0": Published((), 4_652_008, 0.3852, slow=("efficientnet_lite0_timm",)),
    "efficientnet_lite1": Published((), 5_416_680, 0.6002, slow=("efficientnet_lite1_timm",)),
    "efficientnet_lite2": Published((), 6_092_072, 0.8597, slow=("efficientnet_lite2_timm",)),
    "resnet18": Published(("resnet18",), 11_689_512, 1.814),
    "resnet50": Published((), 25_557_032, 4.089, slow=("resnet50",)),
    "tf_efficientnet_b0": Published((), 5_288_548, 0.386, slow=("tf_efficientnet_b0_timm",)),
    "convnext_tiny": Published((), 28_589_128, 4.456, slow=("convnext_tiny_timm", "convnext_tiny_torchvision")),
    "vit_base_patch16": Published((), 86_567_656, 17.564, 768, slow=("vit_base_patch16_timm", "vit_base_patch16_torchvision")),
    "vit_small_patch14_dinov2": Published(
        (), 22_056_192, 46.76, slow=("vit_small_patch14_dinov2_authors", "vit_small_patch14_dinov2_timm")
    ),
    "vit_small_patch16": Published((), 22_050_664, 4.6, 384, slow=("vit_small_patch16_timm", "vit_small_patch16_timm_160")),
    # Its golden files, of parts, are in test_vgg.py.
    "vgg16": Published((), 138_357_544, 15.47),
    "vgg16_bn": Published((), 138_365_992, 15.47),
}


def test_the_table_has_every_network():
    assert PUBLISHED.keys() == BACKBONES.keys()


@pytest.mark.parametrize(("name", "golden"), [(name, file) for name, row in PUBLISHED.items() for file in row.golden])
def test_equals_the_original_at_every_tap(name, golden):
    golden_file.compare(name, golden)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "golden"), [(name, file) for name, row in PUBLISHED.items() for file in row.slow])
def test_equals_more_originals_at_every_tap(name, golden):
    golden_file.compare(name, golden)


@pytest.mark.parametrize("name", PUBLISHED)
def test_has_the_published_size_and_work(name, monkeypatch: pytest.MonkeyPatch):
    network, row = find(name), PUBLISHED[name]
    backbone = network.backbone
    params, stats = network.shapes
    heads = [slot for slot in network.namings[0].slots.values() if slot.collection == "head"]
    head = row.classes * ((row.head_features or backbone.channels[-1]) + 1) if heads else 0
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) + head == row.parameters
    # On a CPU some are other arithmetic: shifts, transforms.
    monkeypatch.setattr(convolution, "dense", convolution.native)
    monkeypatch.setattr(convolution, "depthwise", convolution.native)
    side = backbone.preprocess.image_size
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    program = jax.make_jaxpr(lambda params, stats, x: backbone.apply(params, stats, x)[0])(params, stats, image)
    assert (_multiply_adds(program.jaxpr) + head) / 1e9 == pytest.approx(row.multiply_adds, rel=0.002)


def _multiply_adds(jaxpr) -> int:
    """Of convolutions and matrix products, the zeros around an image included, as publishers count and XLA does not."""
    total = 0
    for equation in jaxpr.eqns:
        output = equation.outvars[0].aval
        if equation.primitive.name == "conv_general_dilated":
            kernel = equation.invars[1].aval
            total += output.size * kernel.size // output.shape[-1]
        elif equation.primitive.name == "dot_general":
            inputs = equation.invars[0].aval
            ((contracted, _), _) = equation.params["dimension_numbers"]
            total += output.size * math.prod(inputs.shape[axis] for axis in contracted)
        for inner in equation.params.values():
            inner = getattr(inner, "jaxpr", inner)
            total += _multiply_adds(inner) if hasattr(inner, "eqns") else 0
    return total


@pytest.mark.slow
def test_the_documentation_has_these_numbers():
    rows = {}
    for line in (Path(__file__).parents[2] / "docs" / "networks.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 7 and cells[0].strip("`") in PUBLISHED:
            rows[cells[0].strip("`")] = cells[1:6]
    wanted = {}
    for name, row in PUBLISHED.items():
        backbone = find(name).backbone
        _, stats = find(name).shapes
        norm = "yes" if jax.tree.leaves(stats) else "no"
        size = str(backbone.preprocess.image_size)
        wanted[name] = [str(len(backbone.stages)), f"{row.parameters:,}", f"{row.multiply_adds:.2f}", size, norm]
    assert rows == wanted
