"""The state dict in a torch file, of the legacy or the zip format."""

import io
import math
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from fteng.backbones.files.errors import DamagedFileError, RefusedFileError
from fteng.backbones.files.torch_pickle import Tensor, Unpickler

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
# Keys under which training scripts put the state dict, the first that is there wins.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "model_ema")
_WRAPPED_AT_MOST = 3
# Tied weights are stored once and read twice; a file that unfolds to more than this many times its size is no network.
_UNFOLDED_AT_MOST = 8
_KEYS_SHOWN = 6
# A broken pickle or archive raises whatever the operation that met the damage raises.
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
    OSError,
)


def read_torch(content: bytes) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The state dict in a torch file, arrays with the dtype and shape they were stored with; and notes on how it was wrapped.

    Raises DamagedFileError or RefusedFileError.
    """
    read = _read_zip if content.startswith(b"PK\x03\x04") else _read_legacy
    try:
        return read(content)
    except _DAMAGE as error:
        raise DamagedFileError(f"{type(error).__name__}: {error}") from error


def _read_legacy(content: bytes) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Five pickles (magic, protocol, system, object, storage keys), then each storage as its length and its bytes."""
    file = io.BytesIO(content)
    magic = Unpickler(file, globals_allowed=False).load()
    if magic != _LEGACY_MAGIC:
        raise RefusedFileError("is a pickle, but not one that torch.save wrote; save model.state_dict() with torch.save")
    protocol, system = (Unpickler(file, globals_allowed=False).load() for _ in range(2))
    if protocol != _LEGACY_PROTOCOL:
        raise DamagedFileError("not of the one protocol that torch.save ever wrote")
    if not system["little_endian"]:
        raise DamagedFileError("written on a big-endian machine, which is not supported")
    unpickler = Unpickler(file, globals_allowed=True)
    tensors, notes = _state_dict(unpickler.load())
    storages: dict[str, np.ndarray] = {}
    for key in Unpickler(file, globals_allowed=False).load():
        storage = unpickler.storages[key]
        size = int.from_bytes(_exactly(file, 8), "little", signed=True)
        if size != storage.size:
            raise DamagedFileError(f"storage {key} has {size} elements where {storage.size} were announced")
        storages[key] = np.frombuffer(_exactly(file, size * storage.dtype.itemsize), storage.dtype)
    return _views(tensors, storages, len(content)), notes


def _read_zip(content: bytes) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """An archive of one folder: data.pkl, byteorder, and data/KEY, the bytes of each storage."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise DamagedFileError("a zip archive, but not one that torch.save wrote")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in names:
            raise RefusedFileError("is a TorchScript program, not a state dict; save model.state_dict() with torch.save")
        if f"{folder}byteorder" in names and _stored(archive, f"{folder}byteorder") != b"little":
            raise DamagedFileError("written on a big-endian machine, which is not supported")
        tensors, notes = _state_dict(Unpickler(io.BytesIO(_stored(archive, pickles[0])), globals_allowed=True).load())
        storages: dict[str, np.ndarray] = {}
        for tensor in tensors.values():
            key, dtype, size = tensor.storage
            if key not in storages:
                data = _stored(archive, f"{folder}data/{key}")
                if len(data) != size * dtype.itemsize:
                    raise DamagedFileError(f"storage {key} has {len(data)} bytes where {size * dtype.itemsize} were announced")
                storages[key] = np.frombuffer(data, dtype)
    return _views(tensors, storages, len(content)), notes


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """An entry's bytes. torch stores without compression; a small archive that would unfold to a huge one stops here."""
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size or entry.flag_bits & 1:
        raise DamagedFileError(f"its entry {name[:80]!r} is compressed or encrypted, which torch.save does not do")
    return archive.read(entry)


def _state_dict(value: Any) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The name -> tensor mapping in what was unpickled, and how it was wrapped."""
    notes: list[str] = []
    for _ in range(_WRAPPED_AT_MOST):
        key = next((key for key in _WRAPPERS if isinstance(value, dict) and isinstance(value.get(key), dict)), None)
        if key is None:
            break
        notes.append(f"took {key!r} of the checkpoint's {_keys(value)}")
        value = value[key]
    advice = "save model.state_dict() alone"
    if not isinstance(value, dict):
        raise RefusedFileError(f"holds a {type(value).__name__} where a state dict was expected; {advice}")
    if not value:
        raise RefusedFileError(f"holds an empty state dict; {advice}")
    for name, tensor in value.items():
        if not isinstance(name, str):
            raise RefusedFileError(f"is not a state dict: it has a key of type {type(name).__name__}; {advice}")
        if not isinstance(tensor, Tensor):
            kind = type(tensor).__name__
            raise RefusedFileError(f"is not a state dict: among {_keys(value)} stands {name[:60]!r}, a {kind}; {advice}")
    return value, tuple(notes)


def _keys(value: Mapping[Any, Any]) -> str:
    """Names for a message. Other keys are not printed: the text of a nested one can outgrow any memory."""
    names = [key[:40] for key in value if isinstance(key, str)]
    return ", ".join(names[:_KEYS_SHOWN]) + (f", ... {len(value) - _KEYS_SHOWN} more" if len(value) > _KEYS_SHOWN else "")


def _exactly(file: io.BytesIO, size: int) -> bytes:
    """Raises EOFError if fewer than `size` bytes are left."""
    content = file.read(size) if size >= 0 else b""
    if len(content) != size:
        raise EOFError(f"the file ends {size - len(content)} bytes too early")
    return content


def _views(tensors: Mapping[str, Tensor], storages: Mapping[str, np.ndarray], file_bytes: int) -> dict[str, np.ndarray]:
    """Copies of the tensors. Raises DamagedFileError if together they are far more than the file holds."""
    unfolded = sum(math.prod(tensor.shape) * tensor.storage.dtype.itemsize for tensor in tensors.values())
    if unfolded > _UNFOLDED_AT_MOST * file_bytes:
        raise DamagedFileError(f"its tensors would take {unfolded} bytes, the file has {file_bytes}")
    return {name: _view(tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}


def _view(tensor: Tensor, storage: np.ndarray) -> np.ndarray:
    """A copy of the tensor in row-major order. Raises DamagedFileError if it reaches outside its storage."""
    shape, strides = tensor.shape, tensor.strides
    numbers = (tensor.offset, *shape, *strides)
    if len(shape) != len(strides) or not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise DamagedFileError("a tensor whose shape, strides or offset are no whole numbers of one length")
    size = math.prod(shape)
    last = tensor.offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
    if size > len(storage) or (size and last >= len(storage)):
        raise DamagedFileError(f"a tensor of shape {shape} in a storage of {len(storage)} elements")
    if not size:
        return np.zeros(shape, storage.dtype)
    steps = tuple(stride * storage.itemsize for stride in strides)
    return np.array(np.lib.stride_tricks.as_strided(storage[tensor.offset :], shape, steps), order="C")
