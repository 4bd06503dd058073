"""A weights file is told by its content; what cannot be read is refused in one line that names the file."""

import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from torch_files import simple

from fteng.backbones.files.read import read
from fteng.errors import UserError


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def refusal(path: Path) -> str:
    """The one line."""
    with pytest.raises(UserError) as caught:
        read(path)
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line
    return line


def npz(compressed=False, **arrays) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


TENSORS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array([1, 2], np.float16),
    "step": np.array(7, np.int64),
    "none": np.zeros((0, 2), np.float32),
}


@pytest.mark.parametrize(
    ("content", "format"),
    [
        (safetensors.numpy.save(TENSORS), "safetensors"),
        (npz(**TENSORS), "npz"),
        (npz(compressed=True, **TENSORS), "npz"),
        (simple(["a"]), "torch"),
    ],
)
def test_the_format_is_told_by_content(tmp_path, content, format):
    for name in ("weights", "weights.h5", "weights.pth"):
        file = read(write(tmp_path / name, content))
        assert file.format == format
        assert file.sha256 == hashlib.sha256(content).hexdigest()
        if format != "torch":
            assert file.tensors.keys() == TENSORS.keys()
            for key, wanted in TENSORS.items():
                assert file.tensors[key].dtype == wanted.dtype
                assert file.tensors[key].shape == wanted.shape
                np.testing.assert_array_equal(file.tensors[key], wanted)


FEW = {"b": TENSORS["b"]}


@pytest.mark.parametrize(
    "content",
    [safetensors.numpy.save(FEW, {"k": "v"}), npz(**FEW), npz(compressed=True, **FEW)],
    ids=["safetensors", "npz", "compressed"],
)
def test_a_file_cut_anywhere_is_refused(tmp_path, content):
    for length in range(len(content)):
        refusal(write(tmp_path / "w", content[:length]))


def test_missing_folders_pipes_and_empty_files(tmp_path):
    assert "No such file" in refusal(tmp_path / "absent.pth")
    assert "Not a directory" in refusal(write(tmp_path / "file", b"x") / "w.pth")
    assert "is a folder" in refusal(tmp_path)
    assert "is empty" in refusal(write(tmp_path / "empty", b""))
    os.mkfifo(tmp_path / "pipe")
    assert "not a plain file" in refusal(tmp_path / "pipe")
    with pytest.raises(UserError, match="null byte"):
        read(Path("a\0b"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
        (b'{"architecture": "vgg16"}', "JSON"),
        (b"\x93NUMPY\x01\x00", "a single numpy array"),
        (b"\x1f\x8b\x08\x00", "gunzip"),
        (b"\xff\xd8\xff\xe0JPEG", r"starts with b'\xff\xd8\xff\xe0JPEG'"),
    ],
)
def test_the_wrong_kind_is_named(tmp_path, content, words):
    assert words in refusal(write(tmp_path / "w.safetensors", content))


@pytest.mark.parametrize(
    ("names", "words"),
    [(["readme.txt"], "neither torch nor numpy"), ([], "damaged"), (["model.weights.h5", "config.json"], "is a .keras archive")],
)
def test_other_zip_archives(tmp_path, names, words):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "text")
    content = file.getvalue() if names else b"PK\x03\x04" + bytes(40)
    assert words in refusal(write(tmp_path / "w", content))


def header(tensors: dict, data: bytes) -> bytes:
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_safetensors_metadata_bfloat16_and_prefix(tmp_path):
    content = header(
        {
            "__metadata__": {"format": "pt", "note": "é"},
            "module.w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
        },
        np.array([1.5, -2], ml_dtypes.bfloat16).tobytes(),
    )
    file = read(write(tmp_path / "w", content))
    assert file.metadata == {"format": "pt", "note": "é"}
    assert file.tensors["w"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(file.tensors["w"].astype(np.float32), [1.5, -2])
    assert file.notes == ("stripped 'module.' from every name",)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}, "F99"),
        ({"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}, "of type F8_E4M3, allowed: F64"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}, "damaged"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [0, 400]}, "damaged"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}, "damaged"),
        ({"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}, "damaged"),
    ],
)
def test_safetensors_that_lie_are_refused(tmp_path, entry, words):
    assert words in refusal(write(tmp_path / "w", header({"w": entry}, bytes(4))))


def test_a_file_without_tensors_is_refused(tmp_path):
    assert "without a tensor" in refusal(write(tmp_path / "w", header({}, b"")))


class Touch:
    """Runs, wherever it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_objects_in_npz_are_refused_and_not_unpickled(tmp_path):
    touched = tmp_path / "touched"
    content = npz(w=np.array([Touch(touched)], object))
    assert "'w' of Python objects" in refusal(write(tmp_path / "w.npz", content))
    assert not touched.exists()
    np.load(io.BytesIO(content), allow_pickle=True)["w"]
    assert touched.exists()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array(["text"]), "of type <U4"),
        (np.zeros(2, np.complex64), "of type <c8"),
        (np.zeros(2, [("a", "f4")]), "of type |V4"),
        (np.zeros(2, "M8[s]"), "of type <M8[s]"),
    ],
)
def test_other_types_in_npz_are_refused(tmp_path, array, words):
    assert words in refusal(write(tmp_path / "w.npz", npz(w=array)))


def test_npz_of_another_machine_and_of_fortran(tmp_path):
    table = np.arange(6, dtype=">f4").reshape(2, 3)
    file = read(write(tmp_path / "w.npz", npz(big=table, turned=np.asfortranarray(table))))
    for tensor in file.tensors.values():
        assert tensor.dtype == np.float32
        assert tensor.dtype.isnative
        np.testing.assert_array_equal(tensor, table)


def test_npz_that_lie_are_refused(tmp_path):
    def lying(shape: str) -> bytes:
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".ljust(117).encode() + b"\n"
        array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(16)
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("w.npy", array)
        return file.getvalue()

    assert read(write(tmp_path / "w", lying("(4,)"))).tensors["w"].shape == (4,)
    for shape in ("(5,)", "(3,)", "(-1,)", "(2, -2)", f"({10**15},)", "(4.0,)", "__import__('os').getpid()"):
        assert "damaged" in refusal(write(tmp_path / "w", lying(shape)))


def test_an_npz_bomb_is_not_unfolded(tmp_path):
    content = npz(compressed=True, w=np.zeros(2**23, np.float32))
    assert len(content) < 2**16
    assert "would unfold" in refusal(write(tmp_path / "w.npz", content))


@pytest.mark.parametrize(("module", "content"), [("h5py", b"\x89HDF\r\n\x1a\n" + bytes(90)), ("onnx", b"\x08\x07\x12\x07tf2onnx")])
def test_a_missing_reader_says_how_to_install_it(tmp_path, monkeypatch, module, content):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"needs {module}, .*; pip install 'fteng\[formats\]'"):
        read(write(tmp_path / "w", content))


def test_readers_of_rare_formats_are_imported_only_when_met():
    code = (
        "import sys, fteng.backbones.files.read, fteng.backbones.files.hub\n"
        "print({'h5py', 'onnx', 'huggingface_hub', 'httpx2', 'jax', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert done.stdout.strip() == "set()"
