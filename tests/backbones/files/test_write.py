"""A safetensors file is written whole or not at all, always the same bytes, and reads back equal here and elsewhere."""

import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from fteng.backbones.files.read import read
from fteng.backbones.files.write import write_safetensors
from fteng.errors import UserError

TENSORS = {
    "flag": np.array([True, False, True]),
    "half": np.array([1.5, -2, 3], ml_dtypes.bfloat16),
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "big": np.arange(3, dtype=">f8"),
    "step": np.array(7, np.int64),
    "none": np.zeros((0, 2), np.float16),
    "é": np.array([255], np.uint8),
}
METADATA = {"format": "pt", "note": "line\nof é", "a": ""}


def test_what_was_written_reads_back_equal(tmp_path):
    path = tmp_path / "new" / "w.safetensors"
    write_safetensors(path, TENSORS, METADATA)
    file = read(path)
    assert file.metadata == METADATA
    assert file.tensors.keys() == TENSORS.keys()
    for name, wanted in TENSORS.items():
        assert file.tensors[name].dtype == wanted.dtype.newbyteorder("=")
        assert file.tensors[name].shape == wanted.shape
        np.testing.assert_array_equal(file.tensors[name].astype(np.float64), wanted.astype(np.float64))
    with safetensors.safe_open(path, "np") as other:
        assert other.metadata() == METADATA
        np.testing.assert_array_equal(other.get_tensor("a.weight"), TENSORS["a.weight"])
    assert list(path.parent.iterdir()) == [path]


def test_the_same_content_gives_the_same_bytes(tmp_path):
    write_safetensors(tmp_path / "a", TENSORS, METADATA)
    write_safetensors(tmp_path / "b", dict(reversed(TENSORS.items())), dict(reversed(METADATA.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_tensor_is_aligned(tmp_path):
    write_safetensors(tmp_path / "w", TENSORS, {"odd": "x"})
    content = (tmp_path / "w").read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    assert start % 8 == 0
    assert content[start : start + 24] == TENSORS["big"].astype("<f8").tobytes()


def test_without_metadata(tmp_path):
    write_safetensors(tmp_path / "w", {"a": np.zeros(1, np.float32)}, {})
    assert safetensors.numpy.load_file(tmp_path / "w").keys() == {"a"}
    assert read(tmp_path / "w").metadata == {}


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "w"
    write_safetensors(path, {"a": np.zeros(1, np.float32)}, {})
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=rf"cannot write {path} \(No space left on device\)"):
        write_safetensors(path, TENSORS, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        write_safetensors(Path(tmp_path / "file" / "w"), TENSORS, {})


@pytest.mark.parametrize(("name", "tensor"), [("a", np.array(["text"])), ("a", np.array([1j])), ("__metadata__", np.zeros(1))])
def test_what_the_format_has_not_is_an_error(tmp_path, name, tensor):
    with pytest.raises(ValueError, match="cannot write"):
        write_safetensors(tmp_path / "w", {name: tensor}, {})
    assert not (tmp_path / "w").exists()
