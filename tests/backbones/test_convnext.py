"""ConvNeXt: what its files must hold, and that a file is written back as it was read."""

import json

import golden_file
import numpy as np
import pytest

from fteng.backbones import convnext
from fteng.backbones.weights import fit, named
from fteng.errors import UserError

NETWORK = convnext.tiny()


def _drawn(naming: str) -> dict[str, np.ndarray]:
    with np.load(golden_file.GOLDEN / f"convnext_tiny_{naming}.npz", allow_pickle=False) as golden:
        return golden_file.draw_all(json.loads(str(golden["shapes"])))


@pytest.mark.parametrize("naming", NETWORK.namings, ids=lambda naming: naming.name)
def test_a_file_comes_back_as_it_was(naming):
    tensors = _drawn(naming.name)
    weights = fit(NETWORK, tensors, "", "a file")
    assert weights.naming == naming.name
    back = named(naming, weights.params, weights.stats, weights.source_head)
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor, err_msg=name)


def test_a_truncated_file_is_refused_in_one_line():
    tensors = _drawn("torchvision")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("features.7.2")}
    with pytest.raises(
        UserError, match=r"does not fit convnext_tiny \(torchvision names\): missing 9 \(features\.7\.2\."
    ) as caught:
        fit(NETWORK, kept, "", "a file")
    assert "\n" not in str(caught.value)


def test_a_wider_network_is_refused_by_shape():
    tensors = _drawn("timm")
    tensors["stages.0.blocks.0.gamma"] = np.ones(128, np.float32)
    with pytest.raises(UserError, match=r"wrong shape 1 \(stages\.0\.blocks\.0\.gamma \(128,\) for \(96,\)\)"):
        fit(NETWORK, tensors, "", "a file")


def test_each_publisher_prepares_its_own_images():
    timm, torchvision = (naming.preprocess for naming in NETWORK.namings)
    assert (timm.interpolation, timm.image_size, timm.crop) == ("bicubic", 224, 0.95)
    assert (torchvision.interpolation, torchvision.image_size / torchvision.crop) == ("bilinear", 236)
