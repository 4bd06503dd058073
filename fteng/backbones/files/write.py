"""Writes a safetensors file, the same bytes for the same content."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fteng.backbones.files.safetensors_file import DTYPES
from fteng.errors import UserError
from fteng.paths import write_by

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ALIGNMENT = 8


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write tensors by name; at any moment `path` is absent, old or whole.

    Not safetensors.numpy.save_file: its metadata come in another order, and the file with another digest, at every run.
    Raises UserError if the place cannot be written, ValueError for a type the format has not.
    """
    # Wide types first, so that every tensor is aligned.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for name in names:
        tensor = tensors[name]
        kind = _NAMES.get(tensor.dtype.newbyteorder("="))
        if kind is None or name == "__metadata__":
            raise ValueError(f"cannot write {name} of type {tensor.dtype}; allowed: {', '.join(DTYPES)}")
        header[name] = {"dtype": kind, "shape": tensor.shape, "data_offsets": (end, end + tensor.nbytes)}
        end += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)

    def write(beside: Path) -> None:
        with beside.open("wb") as file:
            file.write(len(text).to_bytes(8, "little"))
            file.write(text)
            for name in names:
                file.write(tensors[name].astype(tensors[name].dtype.newbyteorder("<"), copy=False).tobytes())

    try:
        write_by(path, write)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); choose another place for the weights file") from None
