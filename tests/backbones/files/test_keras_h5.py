"""Keras' HDF5 files, old and new; and HDF5 files that point elsewhere, unfold, or hold no numbers."""

import io
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest

from fteng.backbones.files.read import read
from fteng.errors import UserError

KERNEL = np.arange(24, dtype=np.float32).reshape(2, 2, 3, 2)
BIAS = np.array([0.5, -1], np.float32)


def written(tmp_path: Path, fill) -> Path:
    """A file that `fill` filled."""
    path = tmp_path / "w"
    with h5py.File(path, "w") as file:
        fill(file)
    return path


def keras_2(root, kernel="kernel:0", bias="bias:0"):
    root.attrs["layer_names"] = ["block1_conv1", "flatten"]
    layer = root.create_group("block1_conv1")
    layer.attrs["weight_names"] = [f"block1_conv1/{kernel}", f"block1_conv1/{bias}"]
    layer.create_dataset(f"block1_conv1/{kernel}", data=KERNEL)
    layer.create_dataset(f"block1_conv1/{bias}", data=BIAS)
    root.create_group("flatten").attrs["weight_names"] = []


def keras_3(file):
    file.create_dataset("layers/conv2d/vars/0", data=KERNEL)
    file.create_dataset("layers/conv2d/vars/1", data=BIAS)
    file.create_group("layers/flatten/vars")
    file.create_group("vars")


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line
    return line


def test_weights_of_keras_applications(tmp_path):
    file = read(written(tmp_path, keras_2))
    assert file.format == "keras-h5"
    assert file.notes == ()
    assert file.tensors.keys() == {"block1_conv1/block1_conv1/kernel:0", "block1_conv1/block1_conv1/bias:0"}
    np.testing.assert_array_equal(file.tensors["block1_conv1/block1_conv1/kernel:0"], KERNEL)
    assert file.tensors["block1_conv1/block1_conv1/bias:0"].dtype == np.float32


def test_a_whole_keras_2_model_without_its_optimizer(tmp_path):
    def fill(file):
        keras_2(file.create_group("model_weights"))
        file.attrs["keras_version"] = "2.15.0"
        file.create_dataset("optimizer_weights/adam/m/block1_conv1/kernel:0", data=KERNEL)

    file = read(written(tmp_path, fill))
    assert file.format == "keras-h5"
    assert file.tensors.keys() == {
        "block1_conv1/block1_conv1/kernel:0",
        "block1_conv1/block1_conv1/bias:0",
    }
    assert file.notes == ("left out optimizer_weights, the optimizer's state",)


def test_keras_3_weights(tmp_path):
    def fill(file):
        keras_3(file)
        file.create_dataset("optimizer/vars/0", data=np.int64(3))

    file = read(written(tmp_path, fill))
    assert file.format == "keras-weights-h5"
    assert list(file.tensors) == ["layers/conv2d/vars/0", "layers/conv2d/vars/1"]
    np.testing.assert_array_equal(file.tensors["layers/conv2d/vars/0"], KERNEL)
    assert file.notes == ("left out optimizer, the optimizer's state",)


def test_bfloat16_float16_scalars_and_other_byte_orders(tmp_path):
    def fill(file):
        half = np.array([1.5, -2], ml_dtypes.bfloat16)
        file.create_dataset("a/vars/0", data=half).attrs["dtype"] = "bfloat16"
        file.create_dataset("a/vars/1", data=np.array([1, 2], np.float16))
        file.create_dataset("a/vars/2", data=np.int64(7))
        file.create_dataset("a/vars/3", data=np.arange(3, dtype=">f8"))
        file.create_dataset("a/vars/4", data=np.array([True, False]))

    tensors = read(written(tmp_path, fill)).tensors
    assert [tensor.dtype.name for tensor in tensors.values()] == ["bfloat16", "float16", "int64", "float64", "bool"]
    np.testing.assert_array_equal(tensors["a/vars/0"].astype(np.float32), [1.5, -2])
    assert tensors["a/vars/2"].shape == ()
    np.testing.assert_array_equal(tensors["a/vars/3"], [0, 1, 2])


def test_links_out_of_the_file_and_external_storage_are_refused(tmp_path):
    secret = tmp_path / "secret"
    with h5py.File(secret, "w") as file:
        keras_3(file)
    raw = tmp_path / "raw"
    raw.write_bytes(bytes(8))

    def external_link(file):
        file["layers"] = h5py.ExternalLink(str(secret), "/layers")

    def soft_link(file):
        keras_3(file)
        file["other"] = h5py.SoftLink("/layers/conv2d")

    def dangling(file):
        file["layers"] = h5py.SoftLink("/nowhere")

    def external_storage(file):
        file.create_dataset("layers/a/vars/0", (2,), "f4", external=[(str(raw), 0, 8)])

    def virtual(file):
        layout = h5py.VirtualLayout((2,), "f4")
        layout[:] = h5py.VirtualSource(str(secret), "layers/conv2d/vars/1", (2,))
        file.create_virtual_dataset("layers/a/vars/0", layout)

    for fill in (external_link, soft_link, dangling):
        assert "a link to another place or file" in refusal(written(tmp_path, fill))
    for fill in (external_storage, virtual):
        assert "keeps 'layers/a/vars/0' in another file" in refusal(written(tmp_path, fill))


def test_loops_and_second_names_are_refused(tmp_path):
    def loop(file):
        keras_3(file)
        file["layers/conv2d/again"] = file["layers"]

    def root(file):
        keras_3(file)
        file["layers/root"] = file["/"]

    def twice(file):
        keras_3(file)
        file["layers/conv2d/vars/2"] = file["layers/conv2d/vars/0"]

    for fill in (loop, root, twice):
        assert "two names for one object" in refusal(written(tmp_path, fill))


def test_what_is_no_number_is_refused(tmp_path):
    def text(file):
        file.create_dataset("a/vars/0", data="text")

    def compound(file):
        file.create_dataset("a/vars/0", data=np.zeros(2, [("x", "f4")]))

    def opaque(file):
        file.create_dataset("a/vars/0", data=np.array([1], ml_dtypes.bfloat16))

    def empty(file):
        file.create_dataset("a/vars/0", data=h5py.Empty("f4"))

    def references(file):
        file.create_dataset("a/vars/0", data=np.array([file.ref], h5py.ref_dtype), dtype=h5py.ref_dtype)

    for fill in (text, compound, opaque, empty, references):
        assert "'a/vars/0' of type" in refusal(written(tmp_path, fill))


def test_a_named_type_is_refused(tmp_path):
    def fill(file):
        keras_3(file)
        file["kind"] = np.dtype("f4")

    assert "'kind', which is no array" in refusal(written(tmp_path, fill))


def test_what_unfolds_is_refused(tmp_path):
    def compressed(file):
        file.create_dataset("a/vars/0", data=np.zeros(10**6, np.float32), compression="gzip")

    def never_written(file):
        file.create_dataset("a/vars/0", (10**12,), "f4")

    def chunks_missing(file):
        file.create_dataset("a/vars/0", (10**12,), "f4", chunks=(1000,))[:1000] = 1

    assert "'a/vars/0' compressed" in refusal(written(tmp_path, compressed))
    assert "declares 4000000000000 bytes, 0 are there" in refusal(written(tmp_path, never_written))
    assert "declares 4000000000000 bytes, 4000 are there" in refusal(written(tmp_path, chunks_missing))


def test_other_hdf5_and_hdf5_without_arrays(tmp_path):
    assert "not one that Keras wrote" in refusal(written(tmp_path, lambda file: file.create_dataset("x", data=BIAS)))
    assert "not one that Keras wrote" in refusal(written(tmp_path, lambda _: None))
    assert "without a tensor" in refusal(written(tmp_path, lambda file: file.attrs.update(layer_names=["a"])))


def test_a_file_cut_anywhere_is_refused(tmp_path):
    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        keras_3(h5)
    content = file.getvalue()
    path = tmp_path / "cut"
    for length in [*range(120), *range(120, len(content), 61), len(content) - 1]:
        path.write_bytes(content[:length])
        refusal(path)
    path.write_bytes(content)
    assert len(read(path).tensors) == 2
