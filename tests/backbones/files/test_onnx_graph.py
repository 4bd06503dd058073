"""ONNX files: initializers of every type by name; nothing outside the file is opened."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fteng.backbones.files.read import read
from fteng.errors import UserError

KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)


def model(*initializers: TensorProto, **changes) -> onnx.ModelProto:
    node = helper.make_node("Identity", ["x"], ["y"])
    place = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    return helper.make_model(helper.make_graph([node], "g", place[:1], place[1:], list(initializers)), **changes)


def written(tmp_path: Path, proto: onnx.ModelProto) -> Path:
    path = tmp_path / "w"
    path.write_bytes(proto.SerializeToString())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line
    return line


def test_every_way_to_keep_numbers(tmp_path):
    file = read(
        written(
            tmp_path,
            model(
                numpy_helper.from_array(KERNEL, "raw"),
                helper.make_tensor("float_data", TensorProto.FLOAT, [2], [1.5, -2]),
                helper.make_tensor("float16", TensorProto.FLOAT16, [2], [1.5, -2]),
                helper.make_tensor("bfloat16", TensorProto.BFLOAT16, [2], [1.5, -2]),
                helper.make_tensor("double", TensorProto.DOUBLE, [2], [1.5, -2]),
                helper.make_tensor("int64", TensorProto.INT64, [], [7]),
            ),
        )
    )
    assert file.format == "onnx"
    np.testing.assert_array_equal(file.tensors["raw"], KERNEL)
    for name, dtype in {
        "float_data": np.float32,
        "float16": np.float16,
        "bfloat16": ml_dtypes.bfloat16,
        "double": np.float64,
    }.items():
        assert file.tensors[name].dtype == dtype
        np.testing.assert_array_equal(file.tensors[name].astype(np.float32), [1.5, -2])
    assert file.tensors["int64"].shape == ()


def test_external_data_are_not_opened(tmp_path):
    (tmp_path / "data").write_bytes(KERNEL.tobytes())
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="data")
    path = written(tmp_path, model(tensor))
    np.testing.assert_array_equal(numpy_helper.to_array(onnx.load(path).graph.initializer[0]), KERNEL)
    assert "keeps 'w' in another file" in refusal(path)
    tensor.data_location = TensorProto.DEFAULT
    assert "keeps 'w' in another file" in refusal(written(tmp_path, model(tensor)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dims": [2, 2]}, "'w'"),
        ({"dims": [2, -1]}, "shape of its own"),
        ({"dims": [2**40, 2**40]}, "'w'"),
        ({"raw_data": b"abc"}, "'w'"),
        ({"name": ""}, "without a name"),
        ({"data_type": TensorProto.STRING}, "of type STRING, allowed: FLOAT"),
        ({"data_type": TensorProto.FLOAT8E4M3FN}, "of type FLOAT8E4M3FN"),
        ({"data_type": TensorProto.COMPLEX64}, "of type COMPLEX64"),
        ({"data_type": 0}, "of type UNDEFINED"),
        ({"data_type": 999}, "of type 999"),
    ],
)
def test_tensors_that_lie_are_refused(tmp_path, change, words):
    fields = {"name": "w", "data_type": TensorProto.FLOAT, "dims": [2, 3], "raw_data": KERNEL.tobytes(), **change}
    assert words in refusal(written(tmp_path, model(TensorProto(**fields))))


def test_two_tensors_of_one_name_sparse_ones_and_none(tmp_path):
    tensor = numpy_helper.from_array(KERNEL, "w")
    assert "'w' without a name or shape of its own" in refusal(written(tmp_path, model(tensor, tensor)))
    assert "without a tensor" in refusal(written(tmp_path, model()))
    sparse = model(tensor)
    sparse.graph.sparse_initializer.add(dims=[2])
    assert "sparse" in refusal(written(tmp_path, sparse))


def test_a_file_cut_anywhere_is_refused(tmp_path):
    content = written(tmp_path, model(numpy_helper.from_array(KERNEL, "w"))).read_bytes()
    path = tmp_path / "cut"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        refusal(path)


def test_another_protobuf_is_refused(tmp_path):
    path = tmp_path / "w"
    path.write_bytes(b"\x08\x01\x12\x03abc")
    assert "ONNX" in refusal(path)
