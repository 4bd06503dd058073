"""The safetensors format: a JSON header of names, types, shapes and offsets, then the bytes."""

import json

import ml_dtypes
import numpy as np
import safetensors

from fteng.backbones.files.errors import DamagedFileError, RefusedFileError

DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}


def read_safetensors(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors by name, and the file's `__metadata__`. Raises DamagedFileError or RefusedFileError."""
    try:
        # Not safetensors.numpy.load: it knows no bfloat16.
        parts = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise DamagedFileError(" ".join(str(error).split())) from error
    tensors: dict[str, np.ndarray] = {}
    for name, part in parts:
        if part["dtype"] not in DTYPES:
            raise RefusedFileError(
                f"holds {name[:80]!r} of type {part['dtype']}, allowed: {', '.join(DTYPES)}; save it as one of these"
            )
        tensors[name] = np.frombuffer(part["data"], DTYPES[part["dtype"]]).reshape(part["shape"])
    # The library has judged the header by now, so it is JSON and the metadata are strings.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return tensors, header.get("__metadata__") or {}
