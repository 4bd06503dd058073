"""Weights files: what torch wrote is read, what is damaged, foreign or hostile is refused in one line and never run."""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from fteng.backbones import efficientnet_lite
from fteng.backbones.catalogue import load
from fteng.backbones.weights import PackageFile, read_package, read_state_dict
from fteng.errors import UserError

PACKAGE = efficientnet_lite.lite0().package


class _Global:
    """Pickles as a call of a global that need not exist here."""

    def __init__(self, *arguments):
        self.arguments = arguments


class _Storage:
    def __init__(self, kind: str, key: str, size: int):
        self.kind, self.key, self.size = kind, key, size


# The pickler in Python: the one in C cannot be taught to write a global that is not there.
_PythonPickler: Any = vars(pickle)["_Pickler"]


class _Pickler(_PythonPickler):
    """Writes what torch.save writes for tensors, from (storage, offset, shape, strides)."""

    def persistent_id(self, obj):
        return ("storage", _Name("torch", obj.kind), obj.key, "cpu", obj.size) if isinstance(obj, _Storage) else None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, _Name):
            self.write(f"c{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, _Global):
            self.save(obj.arguments[0])
            self.save(obj.arguments[1:])
            self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)


class _Name:
    def __init__(self, module: str, name: str):
        self.module, self.name = module, name


def _pickled(value) -> bytes:
    file = io.BytesIO()
    _Pickler(file, protocol=2).dump(value)
    return file.getvalue()


def _tensor(storage: _Storage, shape, strides, offset=0) -> _Global:
    return _Global(_Name("torch._utils", "_rebuild_tensor_v2"), storage, offset, shape, strides, False, OrderedDict())


def _legacy(value, storages: dict[str, np.ndarray]) -> bytes:
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    head = b"".join(_pickled(part) for part in (0x1950A86A20F9469CFC6C, 1001, system, value, list(storages)))
    return head + b"".join(struct.pack("<q", array.size) + array.tobytes() for array in storages.values())


def _zip(value, storages: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/data.pkl", _pickled(value))
        archive.writestr("model/byteorder", "little")
        for key, array in storages.items():
            archive.writestr(f"model/data/{key}", array.tobytes())
    return file.getvalue()


FORMATS = pytest.mark.parametrize("container", [_legacy, _zip])


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@FORMATS
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("FloatStorage", np.float32),
        ("HalfStorage", np.float16),
        ("BFloat16Storage", ml_dtypes.bfloat16),
        ("LongStorage", np.int64),
    ],
)
def test_reads_views_of_every_storage_kind(tmp_path, container, kind, dtype):
    array = np.arange(12).astype(dtype)
    storage = _Storage(kind, "7", 12)
    value = OrderedDict(
        whole=_tensor(storage, (3, 4), (4, 1)),
        turned=_tensor(storage, (4, 3), (1, 4)),
        part=_Global(_Name("torch._utils", "_rebuild_parameter"), _tensor(storage, (2,), (4,), 1), True, OrderedDict()),
        scalar=_tensor(storage, (), (), 5),
        empty=_tensor(storage, (0, 3), (3, 1)),
    )
    tensors = read_state_dict(_write(tmp_path / "w.pth", container({"epoch": 3, "state_dict": value}, {"7": array})))
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(dtype)}
    table = array.astype(np.float32).reshape(3, 4)
    wanted = {"whole": table, "turned": table.T, "part": np.array([1, 5]), "scalar": np.array(5), "empty": np.zeros((0, 3))}
    for name, wanted_array in wanted.items():
        np.testing.assert_array_equal(tensors[name].astype(np.float32), wanted_array)


@FORMATS
def test_hostile_pickle_is_refused_by_name_and_not_run(tmp_path, container):
    touched = tmp_path / "touched"
    evil = {"w": _Global(_Name("posix", "system"), f"touch {touched}")}
    with pytest.raises(UserError, match=r"asks to run posix\.system"):
        read_state_dict(_write(tmp_path / "w.pth", container(evil, {})))
    assert not touched.exists()


def test_the_hostile_file_would_have_worked_elsewhere(tmp_path):
    touched = tmp_path / "touched"
    evil = _pickled({"w": _Global(_Name("posix", "system"), f"touch {touched}")})
    pickle.loads(evil)
    assert touched.exists()


@FORMATS
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("torch", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("collections", "OrderedDict.update"),
    ],
)
def test_any_other_global_is_refused(tmp_path, container, module, name):
    with pytest.raises(UserError, match="refused, nothing was run"):
        read_state_dict(_write(tmp_path / "w.pth", container({"w": _Global(_Name(module, name), "1")}, {})))


def test_globals_before_and_after_the_state_dict_are_refused(tmp_path):
    evil = _pickled(_Global(_Name("posix", "getpid")))
    good = [_pickled(part) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, [])]
    for position in range(5):
        content = b"".join([*good[:position], evil, *good[position + 1 :]])
        if position == 4:
            storage = {"w": _tensor(_Storage("FloatStorage", "0", 1), (1,), (1,))}
            content = b"".join([*good[:3], _pickled(storage), evil])
        with pytest.raises(UserError, match=r"asks to run posix\.getpid"):
            read_state_dict(_write(tmp_path / "w.pth", content))


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "size"),
    [((4,), (1,), 1, 4), ((2, 2), (3, 1), 0, 4), ((10**9, 10**9), (0, 0), 0, 4), ((2,), (-1,), 3, 4), ((2,), (1, 1), 0, 4)],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, shape, strides, offset, size):
    value = {"w": _tensor(_Storage("FloatStorage", "0", size), shape, strides, offset)}
    for container in (_legacy, _zip):
        with pytest.raises(UserError, match="is damaged or not a weights file"):
            read_state_dict(_write(tmp_path / "w.pth", container(value, {"0": np.zeros(size, np.float32)})))


@pytest.mark.parametrize("value", [{}, [1, 2], {"w": 3}, {"state_dict": {"w": [1]}}, {3: 4}])
def test_something_else_than_a_state_dict_is_refused(tmp_path, value):
    with pytest.raises(UserError, match="state_dict"):
        read_state_dict(_write(tmp_path / "w.pth", _zip(value, {})))


@FORMATS
def test_a_file_cut_anywhere_is_refused(tmp_path, container):
    storage = _Storage("FloatStorage", "0", 4)
    content = container(OrderedDict(w=_tensor(storage, (2, 2), (2, 1))), {"0": np.arange(4, dtype=np.float32)})
    for length in range(0, len(content), 7):
        with pytest.raises(UserError, match=r"w\.pth"):
            read_state_dict(_write(tmp_path / "w.pth", content[:length]))


def test_half_of_the_real_file_and_foreign_files_are_refused(tmp_path):
    content = PACKAGE.path().read_bytes()
    for name, piece in {
        "half": content[: len(content) // 2],
        "text": b"not weights\n",
        "empty": b"",
        "zip": _empty_zip(),
    }.items():
        with pytest.raises(UserError, match=f"{name}.*; fetch it again") as caught:
            load("efficientnet_lite0", str(_write(tmp_path / name, piece)))
        assert "\n" not in str(caught.value)
    for path in (tmp_path, tmp_path / "absent.pth"):
        with pytest.raises(UserError, match="cannot read"):
            load("efficientnet_lite0", str(path))


def _empty_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "no weights")
    return file.getvalue()


def test_safetensors_give_the_same_network_as_the_torch_file(tmp_path):
    tensors = read_state_dict(PACKAGE.path())
    assert len(tensors) == 296
    floats = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    floats["_fc.bias"] = floats["_fc.bias"].astype(ml_dtypes.bfloat16)
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(floats, path)
    _, weights = load("efficientnet_lite0", str(path))
    _, package = load("efficientnet_lite0", "package")
    np.testing.assert_array_equal(weights.params[5]["depthwise"]["kernel"], package.params[5]["depthwise"]["kernel"])
    np.testing.assert_allclose(weights.source_head["bias"], package.source_head["bias"], rtol=1e-2)
    assert weights.source_head["bias"].dtype == np.float32
    assert package.digest == PACKAGE.sha256 != weights.digest
    with pytest.raises(UserError, match="is damaged or not a weights file"):
        read_state_dict(_write(tmp_path / "half.safetensors", path.read_bytes()[: path.stat().st_size // 2]))


def test_every_group_of_a_mismatch_is_listed_apart(tmp_path):
    tensors = read_state_dict(PACKAGE.path())
    for name in [name for name in tensors if name.startswith("_blocks.3.")]:
        del tensors[name]
    tensors["_fc.weight"] = tensors["_fc.weight"][:3]
    tensors["layer1.0.conv1.weight"] = np.zeros((1,), np.float32)
    safetensors.numpy.save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(UserError) as caught:
        load("efficientnet_lite0", str(tmp_path / "w.safetensors"))
    line = str(caught.value)
    assert "\n" not in line
    assert "missing 15 (_blocks.3._expand_conv.weight, " in line
    assert "... 11 more)" in line
    assert "unexpected 1 (layer1.0.conv1.weight)" in line
    assert "wrong shape 1 (_fc.weight (3, 1280) for (1000, 1280))" in line
    assert "known and unused 46 (" in line


def test_not_a_number_is_refused(tmp_path):
    tensors = read_state_dict(PACKAGE.path())
    tensors["_bn0.bias"][3] = np.nan
    safetensors.numpy.save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"not finite: tensors 1 \(_bn0.bias\)"):
        load("efficientnet_lite0", str(tmp_path / "w.safetensors"))


def test_every_tensor_of_the_package_is_accounted_for():
    network = efficientnet_lite.lite0()
    assert set(read_state_dict(PACKAGE.path())) == set(network.slots) | network.unused
    places = [(slot.collection, slot.stage, slot.path) for slot in network.slots.values()]
    assert len(set(places)) == len(places) == 296 - 49


def test_another_file_in_the_package_is_refused(tmp_path):
    path = _write(tmp_path / "w.pth", os.urandom(100))
    with pytest.raises(UserError, match=f"sha256 is .*, expected {PACKAGE.sha256}; reinstall"):
        read_package(PackageFile("some==1", lambda: path, PACKAGE.sha256))


def test_a_missing_package_says_how_to_install_it():
    def absent() -> Path:
        raise ImportError

    with pytest.raises(UserError, match="pip install some==1"):
        read_package(PackageFile("some==1", absent, ""))
