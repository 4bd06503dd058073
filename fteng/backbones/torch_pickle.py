"""Reads the tensors of a torch file, of the legacy or the zip format, without torch and without running what the file says.

A pickle is a program. This one may name a handful of globals, which are answered with harmless stand-ins; any other name is
refused before it is looked up, so nothing of it is imported or called.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

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
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001


class ForbiddenGlobalError(Exception):
    """The pickle asks for a global outside the whitelist; the text is its name."""


class DamagedFileError(Exception):
    """Not a whole torch file; the text says what is wrong with it."""


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype[Any]
    size: int


class _Tensor(NamedTuple):
    """A view into a storage: offset, shape and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """`globals_allowed` is false for the parts of a file that hold plain values only."""

    def __init__(self, file: io.BufferedIOBase, *, globals_allowed: bool):
        super().__init__(file, encoding="utf-8")
        self._globals_allowed = globals_allowed
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """The stand-in of a whitelisted global. Raises ForbiddenGlobalError for any other."""
        name = f"{module_name}.{global_name}"
        if self._globals_allowed:
            if module_name == "torch" and global_name in _DTYPES:
                return _DTYPES[global_name]
            if name == "collections.OrderedDict":
                return OrderedDict
            if name == "torch._utils._rebuild_tensor_v2":
                return self._rebuild_tensor
            if name == "torch._utils._rebuild_parameter":
                return self._rebuild_parameter
        raise ForbiddenGlobalError(name)

    def persistent_load(self, pid: Any, /) -> _Storage:
        """A reference to bytes that stand elsewhere in the file."""
        kind, dtype, key, _, size, *view = pid
        known = kind == "storage" and isinstance(dtype, np.dtype) and isinstance(key, str) and isinstance(size, int)
        if not known or any(part is not None for part in view):
            raise DamagedFileError(f"a storage reference of an unknown kind, {pid!r:.80}")
        return self.storages.setdefault(key, _Storage(key, dtype, size))

    def _rebuild_tensor(self, storage: _Storage, offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
        return _Tensor(storage, offset, tuple(shape), tuple(strides))

    def _rebuild_parameter(self, data: _Tensor, *_: Any) -> _Tensor:
        return data


def read_torch(content: bytes) -> dict[str, np.ndarray]:
    """The state dict in a torch file, or under its key `state_dict`; arrays have the dtype and shape they were stored with.

    Raises ForbiddenGlobalError or DamagedFileError.
    """
    read = _read_zip if content.startswith(b"PK\x03\x04") else _read_legacy
    try:
        return read(content)
    # A broken pickle raises whatever the operation that met the damage raises.
    except _DAMAGE as error:
        raise DamagedFileError(f"{type(error).__name__}: {error}") from error


_DAMAGE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    MemoryError,
    OverflowError,
    RecursionError,
    NotImplementedError,
    AssertionError,
)


def _read_legacy(content: bytes) -> dict[str, np.ndarray]:
    """Five pickles (magic, protocol, system, object, storage keys), then each storage as its length and its bytes."""
    file = io.BytesIO(content)
    magic, protocol, system = (_Unpickler(file, globals_allowed=False).load() for _ in range(3))
    if magic != _LEGACY_MAGIC or protocol != _LEGACY_PROTOCOL:
        raise DamagedFileError("a pickle, but not one that torch.save wrote")
    if not system["little_endian"]:
        raise DamagedFileError("written on a big-endian machine, which is not supported")
    unpickler = _Unpickler(file, globals_allowed=True)
    tensors = _state_dict(unpickler.load())
    storages: dict[str, np.ndarray] = {}
    for key in _Unpickler(file, globals_allowed=False).load():
        storage = unpickler.storages[key]
        size = int.from_bytes(_exactly(file, 8), "little", signed=True)
        if size != storage.size:
            raise DamagedFileError(f"storage {key} has {size} elements where {storage.size} were announced")
        storages[key] = np.frombuffer(_exactly(file, size * storage.dtype.itemsize), storage.dtype)
    return {name: _view(tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}


def _read_zip(content: bytes) -> dict[str, np.ndarray]:
    """An archive of one folder: data.pkl, byteorder, and data/KEY, the bytes of each storage."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise DamagedFileError("a zip archive, but not one that torch.save wrote")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in names and archive.read(f"{folder}byteorder") != b"little":
            raise DamagedFileError("written on a big-endian machine, which is not supported")
        unpickler = _Unpickler(io.BytesIO(archive.read(pickles[0])), globals_allowed=True)
        tensors = _state_dict(unpickler.load())
        storages: dict[str, np.ndarray] = {}
        for key, storage in unpickler.storages.items():
            entry, size = archive.getinfo(f"{folder}data/{key}"), storage.size * storage.dtype.itemsize
            # torch stores without compression; a small archive that would unfold to a huge one stops here.
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != size:
                raise DamagedFileError(f"storage {key} has {entry.file_size} bytes where {size} were announced")
            storages[key] = np.frombuffer(archive.read(entry), storage.dtype)
    return {name: _view(tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}


def _state_dict(value: Any) -> dict[str, _Tensor]:
    """The name -> tensor mapping in what was unpickled."""
    if isinstance(value, dict) and isinstance(value.get("state_dict"), dict):
        value = value["state_dict"]
    if not isinstance(value, dict) or not value:
        raise DamagedFileError(f"holds a {type(value).__name__} where a state dict was expected; save model.state_dict()")
    for name, tensor in value.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise DamagedFileError(f"holds {name!r:.60}, a {type(tensor).__name__}, among its tensors; save model.state_dict()")
    return value


def _exactly(file: io.BytesIO, size: int) -> bytes:
    """Raises EOFError if fewer than `size` bytes are left."""
    content = file.read(size) if size >= 0 else b""
    if len(content) != size:
        raise EOFError(f"the file ends {size - len(content)} bytes too early")
    return content


def _view(tensor: _Tensor, storage: np.ndarray) -> np.ndarray:
    """A copy of the tensor in row-major order. Raises DamagedFileError if it reaches outside its storage."""
    shape, strides = tensor.shape, tensor.strides
    numbers = (tensor.offset, *shape, *strides)
    if len(shape) != len(strides) or not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise DamagedFileError(f"a tensor of shape {shape}, strides {strides} and offset {tensor.offset}")
    size = math.prod(shape)
    last = tensor.offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if size > len(storage) or (size and last >= len(storage)):
        raise DamagedFileError(f"a tensor of shape {shape} in a storage of {len(storage)} elements")
    if not size:
        return np.zeros(shape, storage.dtype)
    steps = tuple(stride * storage.itemsize for stride in strides)
    return np.array(np.lib.stride_tricks.as_strided(storage[tensor.offset :], shape, steps), order="C")
