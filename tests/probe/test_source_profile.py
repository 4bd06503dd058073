"""Which source a study gets, and the file: what it holds, whose it is, and what happens to a bad one."""

import json
import zipfile
from typing import Any

import numpy as np
import pytest

from fteng.backbones.catalogue import load
from fteng.config import BackboneConfig
from fteng.errors import UserError
from fteng.probe import source_profile
from fteng.probe.features import Moments
from fteng.probe.source_profile import Source, find_source, preprocess_digest, read_profile, shipped_name, write_profile
from tests.probe.tiny_network import tiny_network, tiny_weights

NETWORK = tiny_network()
BACKBONE = NETWORK.backbone
WEIGHTS = tiny_weights(NETWORK)
WIDTHS = (4, 6)
HEADER = {
    "backbone": "tiny",
    "weights": WEIGHTS.digest,
    "preprocess": preprocess_digest(BACKBONE.preprocess),
    "image_size": 8,
    "resize": "squash",
    "images": 12,
    "name": "made",
    "about": "",
    "command": "python -m fteng.source",
    "versions": {"python": "3"},
}
MOMENTS = {
    stage: {"mean": np.linspace(-1, 1, n), "var": np.linspace(1, 2, n)} for stage, n in zip(BACKBONE.stages, WIDTHS, strict=True)
}


def written(path, moments=MOMENTS, **header):
    write_profile(path, HEADER | header, moments)
    return path


def find(text="", backbone=BACKBONE, weights=WEIGHTS):
    return find_source(text, backbone, weights, lambda: WIDTHS)


def arrays(**changed):
    """What a whole file holds, some of it replaced, by names with __ for a slash; None: left out."""
    header = np.frombuffer(json.dumps({"format": 1, **HEADER}).encode(), np.uint8)
    held = {f"{part}/{stage}": values for stage, layer in MOMENTS.items() for part, values in layer.items()} | {"header": header}
    held |= {name.replace("__", "/"): values for name, values in changed.items()}
    return {name: values for name, values in held.items() if values is not None}


def header_bytes(text):
    return np.frombuffer(text.encode(), np.uint8)


def test_the_file_gives_back_what_went_in(tmp_path):
    file = read_profile(written(tmp_path / "a.npz"))
    assert file.header == {"format": 1, **HEADER}
    assert list(file.moments) == ["normed", "plain"]
    for stage, layer in MOMENTS.items():
        for part, values in layer.items():
            np.testing.assert_array_equal(file.moments[stage][part], values.astype(np.float32))
    # Equal content, equal bytes: a shipped file that is made again does not change.
    assert file.sha256 == read_profile(written(tmp_path / "b.npz")).sha256


def test_batch_norm_where_there_is_some_and_a_file_when_it_is_named(tmp_path):
    own = find()
    assert (own.kind, own.facts) == ("batch_norm", {"kind": "batch_norm"})
    assert own.moments is WEIGHTS.stats
    named = find(str(written(tmp_path / "a.npz")))
    assert named.kind == "file"
    assert named.facts["images"] == 12
    assert named.facts["sha256"] == read_profile(tmp_path / "a.npz").sha256
    np.testing.assert_allclose(named.moments[1]["var"], MOMENTS["plain"]["var"], rtol=1e-6)


def test_random_weights_have_no_source_but_may_be_given_one(tmp_path):
    fresh = tiny_weights(NETWORK, "random:0")
    none = find(weights=fresh)
    assert (none.kind, none.facts["advice"]) == ("none", "")
    assert "random" in none.facts["reason"]
    assert find(str(written(tmp_path / "a.npz", weights="random:0")), weights=fresh).kind == "file"


def test_a_stage_the_file_does_not_know_is_empty(tmp_path):
    path = written(tmp_path / "a.npz", {"normed": MOMENTS["normed"]})
    assert find(str(path)).moments[1] == ()


@pytest.mark.parametrize(
    ("header", "named"),
    [
        ({"backbone": "vgg16"}, "another backbone: got 'vgg16', needed 'tiny'"),
        ({"weights": "e" * 64}, f"other weights (sha256): got '{'e' * 64}', needed '{'d' * 64}'"),
        ({"preprocess": "f" * 64}, "images scaled in another way (digest): got"),
    ],
)
def test_a_foreign_file_is_refused_in_one_line(tmp_path, header, named):
    with pytest.raises(UserError) as refused:
        find(str(written(tmp_path / "a.npz", **header)))
    assert named in str(refused.value)
    assert "python -m fteng.source" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_other_widths_are_refused(tmp_path):
    path = written(tmp_path / "a.npz", MOMENTS | {"plain": {"mean": np.zeros(5), "var": np.ones(5)}})
    with pytest.raises(UserError, match="has 5 channels in plain, tiny has 6"):
        find(str(path))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"header": None}, "no header"),
        ({"header": np.array(["{}"], dtype=object)}, "objects"),
        ({"header": np.array("{}")}, "type <U2"),
        ({"header": header_bytes("{")}, "not JSON"),
        ({"header": header_bytes("[" * 100_000)}, "not JSON"),
        ({"header": header_bytes("[]")}, "exactly"),
        ({"header": header_bytes(json.dumps(HEADER))}, "exactly"),
        ({"header": header_bytes(json.dumps({"format": 2, **HEADER}))}, "format 2"),
        ({"header": header_bytes(json.dumps({"format": 1, **HEADER, "images": "12"}))}, "images in its header is no int"),
        ({"header": header_bytes(json.dumps({"format": 1, **HEADER, "images": True}))}, "images in its header is no int"),
        ({"header": header_bytes(json.dumps({"format": 1, **HEADER, "images": 0}))}, "no images"),
        ({"header": header_bytes(json.dumps({"format": 1, **HEADER, "name": "n" * 9999}))}, "longer than"),
        ({"header": header_bytes(json.dumps({"format": 1, **HEADER, "versions": {"a": []}}))}, "versions"),
        ({"mean__normed": None}, "do not match"),
        ({"mean__normed": np.zeros(3)}, "do not match"),
        ({"mean__normed": np.zeros((2, 2))}, "no list of floats"),
        ({"mean__normed": np.zeros(4, int)}, "no list of floats"),
        ({"mean__normed": np.full(4, np.nan)}, "no mean can be"),
        ({"var__normed": np.full(4, -1.0)}, "no var can be"),
        ({"weights": np.zeros(4)}, "it holds 'weights'"),
        ({"mean__normed": None, "var__normed": None, "mean__plain": None, "var__plain": None}, "no stage"),
    ],
)
def test_a_hostile_file_is_one_line(tmp_path, changed, said):
    held: dict[str, Any] = arrays(**changed)
    np.savez(tmp_path / "a.npz", **held)
    with pytest.raises(UserError, match=said) as refused:
        read_profile(tmp_path / "a.npz")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 700


def test_what_is_no_npz_is_one_line(tmp_path):
    whole = written(tmp_path / "a.npz").read_bytes()
    contents = {"empty": b"", "text": b"moments\n", "half": whole[: len(whole) // 2], "zeros": bytes(1000)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mean/normed.npy", bytes(1 << 26))
    for name in [*contents, "bomb"]:
        with pytest.raises(UserError, match="is no source profile"):
            read_profile(tmp_path / name)
    for path in (tmp_path / "absent.npz", tmp_path):
        with pytest.raises(UserError, match="no file"):
            read_profile(path)


def test_a_shipped_file_is_found_by_the_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(source_profile, "_SHIPPED", tmp_path)
    backbone, fresh = load(BackboneConfig("all_cnn_c", "random"))
    weights = fresh._replace(digest="c" * 64)
    absent = find_source("", backbone, weights, lambda: backbone.channels)
    assert (absent.kind, absent.facts["kind"]) == ("none", "none")
    assert "python -m fteng.source" in absent.facts["advice"]
    moments = {stage: {"mean": np.zeros(n), "var": np.ones(n)} for stage, n in zip(backbone.stages, backbone.channels, strict=True)}
    header = {"backbone": "all_cnn_c", "weights": "c" * 64, "preprocess": preprocess_digest(backbone.preprocess)}
    path = written(tmp_path / shipped_name("all_cnn_c", "c" * 64), moments, **header)
    found = find_source("", backbone, weights, lambda: backbone.channels)
    assert (found.kind, found.facts["path"]) == ("file", f"shipped: {path.name}")
    # Under another preprocessing it says nothing of these data, and nobody asked for it by name.
    written(path, moments, **header | {"preprocess": "f" * 64})
    other = find_source("", backbone, weights, lambda: backbone.channels)
    assert (other.kind, "scaled in another way" in other.facts["reason"]) == ("none", True)


def test_every_shipped_file_is_whole_small_and_called_by_its_weights():
    files = sorted(source_profile._SHIPPED.glob("*.npz"))
    assert [path.name for path in files] == ["vgg16-3be917fb4375.npz"]
    for path in files:
        file = read_profile(path)
        assert path.stat().st_size < 60_000
        assert path.name == shipped_name(file.header["backbone"], file.header["weights"])
        assert "not ImageNet" in file.header["about"]
        stages = load(BackboneConfig("vgg16", "random", "block5"))[0]
        widths = [len(file.moments[stage]["mean"]) for stage in stages.stages]
        assert tuple(widths) == stages.channels


@pytest.mark.parametrize(("kind", "place"), [("batch_norm", "inputs"), ("file", "outputs")])
def test_the_data_are_looked_at_where_the_source_was(kind, place):
    data = Moments(inputs=("before each layer",), outputs=("behind the stage",))
    assert Source(kind, (), {}).seen(data) == getattr(data, place)
