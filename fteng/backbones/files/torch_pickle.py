"""Loads a pickle that torch.save wrote, without torch and without running what it says.

A pickle is a program. This one may name a handful of globals, which are answered with harmless stand-ins; any other name is
refused before it is looked up, so nothing of it is imported or called.
"""

import io
import pickle
import pickletools
from collections import OrderedDict
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from fteng.backbones.files.errors import DamagedFileError, RefusedFileError

_DTYPES = {
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
# What training scripts keep beside the state dict: arguments, rates, best metrics. Taken in and thrown away.
_BESIDE = {
    "argparse.Namespace",
    "collections.defaultdict",
    "__builtin__.dict",
    "__builtin__.list",
    "__builtin__.set",
    "torch.Size",
    "torch.device",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "_codecs.encode",
}


class Storage(NamedTuple):
    """Numbers in a row, which stand elsewhere in the file under the key; size: how many."""

    key: str
    dtype: np.dtype[Any]
    size: int


class Tensor(NamedTuple):
    """A view into a storage: offset, shape and strides in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Kind(NamedTuple):
    """Stands for a storage class. Not the dtype itself: a pickle can set the state of what it is given, and this has none."""

    name: str


class _Beside:
    """Takes any arguments, state and items, and keeps none."""

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, _: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class Unpickler(pickle.Unpickler):
    """Loads pickle after pickle of a file. `globals_allowed` is false for the parts that hold plain values only.

    storages: those that were named so far, by key.
    """

    def __init__(self, file: io.BytesIO, *, globals_allowed: bool):
        super().__init__(file, encoding="utf-8")
        self._file = file
        self._globals_allowed = globals_allowed
        self.storages: dict[str, Storage] = {}

    def load(self) -> Any:
        """The next pickle of the file. Raises DamagedFileError for one that asks for more memory than any file needs."""
        start = self._file.tell()
        # Six bytes can make the unpickler fill a table of 2**32 entries.
        for opcode, argument, _ in pickletools.genops(self._file):
            if opcode.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > self._file.getbuffer().nbytes:
                raise DamagedFileError(f"a memo of {argument} entries")
        self._file.seek(start)
        return super().load()

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """The stand-in of a whitelisted global. Raises RefusedFileError for any other."""
        name = f"{module_name}.{global_name}"
        if self._globals_allowed:
            if module_name == "torch" and global_name in _DTYPES:
                return _Kind(global_name)
            if name == "collections.OrderedDict":
                return OrderedDict
            if name == "torch._utils._rebuild_tensor_v2":
                return self._rebuild_tensor
            if name == "torch._utils._rebuild_parameter":
                return self._rebuild_parameter
            if name in _BESIDE:
                # A class of its own, since a pickle can set attributes of what it is given.
                return type("Beside", (_Beside,), {})
        raise RefusedFileError(
            f"asks to run {name[:80]!r}, which a weights file needs not; refused, nothing was run; "
            "save model.state_dict() alone, or use .safetensors"
        )

    def persistent_load(self, pid: Any, /) -> Storage:
        """A reference to bytes that stand elsewhere in the file."""
        kind, storage_kind, key, _, size, *view = pid
        known = kind == "storage" and isinstance(storage_kind, _Kind) and isinstance(key, str) and isinstance(size, int)
        if not known or any(part is not None for part in view):
            raise DamagedFileError("a storage reference of an unknown kind")
        return self.storages.setdefault(key, Storage(key, _DTYPES[storage_kind.name], size))

    def _rebuild_tensor(self, storage: Storage, offset: int, shape: Any, strides: Any, *_: Any) -> Tensor:
        if not isinstance(storage, Storage):
            raise DamagedFileError("a tensor without a storage")
        return Tensor(storage, offset, tuple(shape), tuple(strides))

    def _rebuild_parameter(self, data: Tensor, *_: Any) -> Tensor:
        return data
