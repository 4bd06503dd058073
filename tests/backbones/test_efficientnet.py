"""The EfficientNets under each publisher's names: what fits comes back the same, and the packages' weights are real."""

import json
from collections.abc import Mapping

import golden_file
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
import sklearn.datasets
from PIL import Image
from safetensors.numpy import save_file

from fteng.backbones.catalogue import find, load
from fteng.backbones.origin import open_weights
from fteng.backbones.weights import fit, named
from fteng.config import BackboneConfig
from fteng.errors import UserError

FILES = {
    "efficientnet_b0": ("timm", "torchvision"),
    "efficientnet_lite0": ("timm",),
    "efficientnet_lite1": ("timm",),
    "efficientnet_lite2": ("timm",),
    "tf_efficientnet_b0": ("timm",),
}


def _drawn(file: str) -> dict[str, np.ndarray]:
    with np.load(golden_file.GOLDEN / f"{file}.npz", allow_pickle=False) as golden:
        return golden_file.draw_all(json.loads(str(golden["shapes"])))


def _same(got: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> None:
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    assert got.keys() == wanted.keys() - counters
    for name, tensor in got.items():
        np.testing.assert_array_equal(tensor, wanted[name], name)


@pytest.mark.parametrize(("name", "publisher"), [(name, publisher) for name in FILES for publisher in FILES[name]])
def test_what_fits_comes_back_in_the_publishers_names(name, publisher):
    network, tensors = find(name), _drawn(f"{name}_{publisher}")
    weights = fit(network, tensors, "drawn", "a file")
    assert weights.naming == publisher
    (naming,) = (naming for naming in network.namings if naming.name == publisher)
    _same(named(naming, weights.params, weights.stats, weights.source_head), tensors)


def test_the_packages_names_come_back_too():
    network = find("efficientnet_lite0")
    origin = open_weights("package", network.package, "efficientnet_lite0", ())
    weights = fit(network, origin.tensors, origin.digest, "the package")
    assert weights.naming == "efficientnet-pytorch"
    _same(named(network.namings[0], weights.params, weights.stats, weights.source_head), origin.tensors)


@pytest.mark.parametrize(("name", "stages", "last_block"), [("b0", 18, 320), ("lite1", 23, 320), ("lite2", 23, 352)])
def test_stages_and_groups_are_in_order(name, stages, last_block):
    backbone = find(f"efficientnet_{name}").backbone
    assert backbone.stages == ("stem", *(f"block{number}" for number in range(1, stages - 1)), "conv_head")
    assert [stage for members in backbone.groups.values() for stage in members] == list(backbone.stages[1:-1])
    assert list(backbone.groups) == [f"stage{number}" for number in range(1, 8)]
    assert backbone.channels[-2:] == (last_block, 1280)


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("blocks.3.1.se.conv_reduce.bias", r"\(timm names\): missing 1 \(blocks\.3\.1\.se\.conv_reduce\.bias\); unexpected 0"),
        ("conv_head.weight", r"\(timm names\): missing 1 \(conv_head\.weight\).*backbone\.last_stage=block16"),
        ("classifier.weight", r"\(timm names\): missing 1 \(classifier\.weight\)"),
    ],
)
def test_an_incomplete_file_is_refused(lost, message):
    tensors = _drawn("efficientnet_b0_timm")
    del tensors[lost]
    with pytest.raises(UserError, match=message) as refused:
        fit(find("efficientnet_b0"), tensors, "drawn", "a file")
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_a_file_of_another_size_is_refused():
    with pytest.raises(
        UserError, match=r"wrong shape \d+ \(blocks\.2\.0\.conv_pwl\.weight \(40, 144, 1, 1\) for \(48, 144, 1, 1\)"
    ):
        fit(find("efficientnet_lite2"), _drawn("efficientnet_lite1_timm"), "drawn", "a file")
    with pytest.raises(UserError, match=r"unexpected 64 \(blocks\.0\.0\.se\.conv_expand\.bias"):
        fit(find("efficientnet_lite0"), _drawn("efficientnet_b0_timm"), "drawn", "a file")


def test_images_are_prepared_as_the_files_publisher_does(tmp_path):
    assert find("efficientnet_lite0").backbone.preprocess.mean == (127.0, 127.0, 127.0)
    save_file(_drawn("efficientnet_lite0_timm"), tmp_path / "timm.safetensors")
    backbone, _ = load(BackboneConfig("efficientnet_lite0", str(tmp_path / "timm.safetensors")))
    assert backbone.preprocess.mean == backbone.preprocess.std == (127.5, 127.5, 127.5)
    assert (backbone.preprocess.image_size, backbone.preprocess.crop) == (224, 0.875)


@pytest.mark.slow
def test_the_two_b0_take_the_same_file_and_are_two_networks():
    tensors = _drawn("tf_efficientnet_b0_timm")
    x = jnp.asarray(golden_file.image_batch(1, 16))
    stems = []
    for name in ("efficientnet_b0", "tf_efficientnet_b0"):
        network = find(name)
        weights = fit(network, tensors, "drawn", "a file")
        stems.append(network.backbone.apply(weights.params, weights.stats, x, stop=1)[0])
    assert float(jnp.abs(stems[0] - stems[1]).max()) > 0.1


# Probabilities that timm's networks give with the same weights.
@pytest.mark.slow
@pytest.mark.parametrize(("name", "palace", "cats", "espresso"), [("lite1", 0.530, 0.811, 0.542), ("lite2", 0.390, 0.823, 0.885)])
def test_sees_a_palace_cats_and_espresso(name, palace, cats, espresso):
    package = find(f"efficientnet_{name}").package
    assert package is not None
    try:
        package.path()
    except ImportError:
        pytest.skip(f"{package.requirement} is not installed")
    backbone, weights = load(BackboneConfig(f"efficientnet_{name}", "package"))
    pictures = (sklearn.datasets.load_sample_image("china.jpg"), skimage.data.chelsea(), skimage.data.coffee())
    images = jnp.asarray(np.stack([_square(picture, backbone.preprocess.image_size) for picture in pictures]))
    y, _ = jax.jit(backbone.apply)(weights.params, weights.stats, backbone.preprocess.apply(images))
    assert weights.source_head is not None
    logits = backbone.pool(y) @ weights.source_head["kernel"] + weights.source_head["bias"]
    found = np.asarray(jax.nn.softmax(logits))
    assert tuple(found.argmax(axis=1)[[0, 2]]) == (698, 967)
    seen = (found[0, 698], found[1, [281, 282, 285]].sum(), found[2, 967])
    assert seen == pytest.approx((palace, cats, espresso), abs=0.005)


def _square(image: np.ndarray, side: int) -> np.ndarray:
    """The middle of the image, brought to 32 pixels more."""
    picture = Image.fromarray(image)
    shorter = min(picture.size)
    left, top = (picture.width - shorter) // 2, (picture.height - shorter) // 2
    middle = picture.crop((left, top, left + shorter, top + shorter))
    resized = middle.resize((side + 32, side + 32), Image.Resampling.BICUBIC)
    return np.asarray(resized)[16:-16, 16:-16]
