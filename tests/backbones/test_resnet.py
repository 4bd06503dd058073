"""The ResNets: what fits comes back the same under torch's names, and what does not is refused."""

import json

import golden_file
import numpy as np
import pytest

from fteng.backbones.catalogue import find
from fteng.backbones.weights import fit, named
from fteng.errors import UserError


def _drawn(file: str) -> dict[str, np.ndarray]:
    with np.load(golden_file.GOLDEN / f"{file}.npz", allow_pickle=False) as golden:
        return golden_file.draw_all(json.loads(str(golden["shapes"])))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_what_fits_comes_back(name):
    network, tensors = find(name), _drawn(name)
    weights = fit(network, tensors, "drawn", "a file")
    back = named(network.namings[0], weights.params, weights.stats, weights.source_head)
    assert back.keys() == {name for name in tensors if not name.endswith("num_batches_tracked")}
    for key, tensor in back.items():
        np.testing.assert_array_equal(tensor, tensors[key], key)


@pytest.mark.parametrize(("name", "blocks", "channels"), [("resnet18", (2, 2, 2, 2), 512), ("resnet50", (3, 4, 6, 3), 2048)])
def test_stages_and_groups_are_in_order(name, blocks, channels):
    backbone = find(name).backbone
    assert {group: len(members) for group, members in backbone.groups.items()} == {
        f"layer{number}": count for number, count in enumerate(blocks, 1)
    }
    assert backbone.stages == ("stem", *(stage for members in backbone.groups.values() for stage in members))
    assert backbone.stages[1:3] == ("layer1_block1", "layer1_block2")
    assert backbone.channels[-1] == channels


def test_an_incomplete_file_is_refused():
    whole = _drawn("resnet18")
    beginning = {name: whole[name] for name in list(whole)[: len(whole) // 2]}
    with pytest.raises(UserError, match=r"does not fit resnet18 \(torchvision names\): missing \d+ \(") as refused:
        fit(find("resnet18"), beginning, "drawn", "half a file")
    assert "\n" not in str(refused.value)
    del whole["layer2.0.downsample.0.weight"]
    with pytest.raises(UserError, match=r"missing 1 \(layer2\.0\.downsample\.0\.weight\); unexpected 0; wrong shape 0"):
        fit(find("resnet18"), whole, "drawn", "a file")


def test_a_file_of_the_other_depth_is_refused():
    with pytest.raises(UserError, match=r"unexpected \d+ \(layer1\.0\.bn3\.bias"):
        fit(find("resnet18"), _drawn("resnet50"), "drawn", "a file")
