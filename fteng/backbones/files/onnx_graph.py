"""The initializers of an ONNX file. The graph is not read, and files that it points to are not opened."""

import numpy as np

from fteng.backbones.files.errors import DamagedFileError, RefusedFileError
from fteng.backbones.files.extra import need

_TYPES = (
    "FLOAT",
    "DOUBLE",
    "FLOAT16",
    "BFLOAT16",
    "INT64",
    "INT32",
    "INT16",
    "INT8",
    "UINT64",
    "UINT32",
    "UINT16",
    "UINT8",
    "BOOL",
)


def read_onnx(content: bytes) -> dict[str, np.ndarray]:
    """Initializers by name. Raises DamagedFileError, RefusedFileError, or UserError where onnx is not installed."""
    onnx = need("onnx", "formats", "an ONNX file")
    decode_error = need("google.protobuf.message", "formats", "an ONNX file").DecodeError
    numpy_helper = need("onnx.numpy_helper", "formats", "an ONNX file")
    try:
        # From memory: onnx.load would open what the file points to.
        model = onnx.load_model_from_string(content)
    except (decode_error, ValueError, RecursionError) as error:
        raise DamagedFileError(f"ONNX: {' '.join(str(error).split())}") from error
    # Both are obligatory and the second is written last: a file cut between two fields stops here.
    if not model.HasField("graph") or not model.opset_import:
        raise DamagedFileError("ONNX without a whole graph")
    if model.graph.sparse_initializer:
        raise RefusedFileError("holds sparse initializers; export it with dense ones")
    tensors: dict[str, np.ndarray] = {}
    for initializer in model.graph.initializer:
        name = initializer.name
        if initializer.data_location == onnx.TensorProto.EXTERNAL or initializer.external_data:
            raise RefusedFileError(f"keeps {name[:80]!r} in another file; save it with onnx.save(..., save_as_external_data=False)")
        kind = initializer.data_type
        word = onnx.TensorProto.DataType.Name(kind) if kind in onnx.TensorProto.DataType.values() else str(kind)
        if word not in _TYPES:
            raise RefusedFileError(f"holds {name[:80]!r} of type {word}, allowed: {', '.join(_TYPES)}; export it as one of these")
        if not name or name in tensors or any(length < 0 for length in initializer.dims):
            raise DamagedFileError(f"the initializer {name[:80]!r} without a name or shape of its own")
        try:
            tensors[name] = np.array(numpy_helper.to_array(initializer))
        except (ValueError, TypeError, OverflowError, MemoryError) as error:
            raise DamagedFileError(f"the initializer {name[:80]!r}: {error}") from error
    return tensors
