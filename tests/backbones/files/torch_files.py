"""Writes what torch.save writes, of both formats, without torch; and what it never would."""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np

# The pickler in Python: the one in C cannot be taught to write a global that is not there.
_PythonPickler: Any = vars(pickle)["_Pickler"]


class Name:
    def __init__(self, module: str, name: str):
        self.module, self.name = module, name


class Global:
    """Pickles as a call of a global that need not exist here."""

    def __init__(self, *arguments):
        self.arguments = arguments


class Storage:
    def __init__(self, kind: str, key: str, size: int):
        self.kind, self.key, self.size = kind, key, size


class _Pickler(_PythonPickler):
    def persistent_id(self, obj):
        return ("storage", Name("torch", obj.kind), obj.key, "cpu", obj.size) if isinstance(obj, Storage) else None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Name):
            self.write(f"c{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Global):
            self.save(obj.arguments[0])
            self.save(obj.arguments[1:])
            self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)


def pickled(value) -> bytes:
    file = io.BytesIO()
    _Pickler(file, protocol=2).dump(value)
    return file.getvalue()


def tensor(storage: Storage, shape, strides, offset=0) -> Global:
    return Global(Name("torch._utils", "_rebuild_tensor_v2"), storage, offset, shape, strides, False, OrderedDict())


def legacy(value, storages: dict[str, np.ndarray]) -> bytes:
    return legacy_parts(pickled(value), storages)


def legacy_parts(program: bytes, storages: dict[str, np.ndarray]) -> bytes:
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    head = [pickled(part) for part in (0x1950A86A20F9469CFC6C, 1001, system)]
    data = [struct.pack("<q", array.size) + array.tobytes() for array in storages.values()]
    return b"".join([*head, program, pickled(list(storages)), *data])


def zipped(value, storages: dict[str, np.ndarray]) -> bytes:
    return zipped_parts(pickled(value), storages)


def zipped_parts(program: bytes, storages: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/data.pkl", program)
        archive.writestr("model/byteorder", "little")
        for key, array in storages.items():
            archive.writestr(f"model/data/{key}", array.tobytes())
    return file.getvalue()


def simple(names, container=zipped, wrap=lambda state: state) -> bytes:
    """A file of one float32 tensor [0, 1, 2, 3] under each name."""
    storage = Storage("FloatStorage", "0", 4)
    return container(
        wrap(OrderedDict((name, tensor(storage, (4,), (1,))) for name in names)), {"0": np.arange(4, dtype=np.float32)}
    )
