"""A weights file of any known format as names and arrays. The format is told by the content, whatever the file is called."""

import hashlib
import io
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fteng.backbones.files.errors import DamagedFileError, RefusedFileError
from fteng.backbones.files.keras_h5 import read_keras
from fteng.backbones.files.npz import read_npz
from fteng.backbones.files.onnx_graph import read_onnx
from fteng.backbones.files.safetensors_file import read_safetensors
from fteng.backbones.files.torch_file import read_torch
from fteng.errors import UserError

ALLOWED = "torch .pth, .safetensors, Keras .h5 or .weights.h5, .npz, .onnx"
_AGAIN = "fetch it again, or convert it to .safetensors"
# What people have instead of a weights file.
_OTHERS = {
    b"version https://git-lfs": "the pointer of Git LFS, not the file it stands for; git lfs pull",
    b"<": "a web page, not a weights file; download the file itself",
    b"{": "JSON, not a weights file; give the file of the weights",
    b"\x93NUMPY": "a single numpy array; save named arrays with numpy.savez",
    b"\x1f\x8b": "packed with gzip; gunzip it",
}
# DataParallel and torch.compile wrap the network and put this before every name.
_PREFIXES = ("module.", "_orig_mod.")


class File(NamedTuple):
    """tensors: by their name in the file, dtype and shape as stored. sha256: of the whole file, in hex.

    format: torch, safetensors, keras-h5, keras-weights-h5, npz or onnx. metadata: what a safetensors file says of itself.
    notes: what was unwrapped, stripped or left out, one sentence each.
    """

    tensors: dict[str, np.ndarray]
    sha256: str
    format: str
    metadata: dict[str, str]
    notes: tuple[str, ...]


def read(path: Path) -> File:
    """The tensors of a weights file. Raises UserError of one line; runs nothing and opens no other file."""
    content = _content(path)
    try:
        file = _parse(content)
        if not file.tensors:
            raise RefusedFileError(f"is a file of the {file.format} format without a tensor; give the file that holds the weights")
    except RefusedFileError as error:
        raise UserError(f"{path} {error}") from None
    except DamagedFileError as error:
        raise UserError(f"{path} is damaged or not a weights file ({' '.join(str(error).split())[:300]}); {_AGAIN}") from None
    return file._replace(sha256=hashlib.sha256(content).hexdigest())


def _content(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UserError(f"{path} is a folder; give one weights file ({ALLOWED})")
        # A pipe or a device may never end.
        if not stat.S_ISREG(mode):
            raise UserError(f"{path} is not a plain file; give one weights file ({ALLOWED})")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); give the path of a weights file ({ALLOWED})") from None
    # A path of the config can hold anything.
    except ValueError as error:
        raise UserError(f"cannot read {str(path)!r} ({error}); give the path of a weights file ({ALLOWED})") from None
    if not content:
        raise UserError(f"{path} is empty; {_AGAIN}")
    return content


def _parse(content: bytes) -> File:
    """The file without its digest."""
    if content[8:9] == b"{" and content[5:8] == bytes(3):
        tensors, metadata = read_safetensors(content)
        return _stripped(File(tensors, "", "safetensors", metadata, ()))
    if content.startswith(b"PK\x03\x04"):
        return _parse_zip(content)
    if content.startswith(b"\x80"):
        tensors, notes = read_torch(content)
        return _stripped(File(tensors, "", "torch", {}, notes))
    if content.startswith(b"\x89HDF\r\n\x1a\n"):
        tensors, kind, notes = read_keras(content)
        return File(tensors, "", kind, {}, notes)
    # ONNX has no mark of its own; its first field is the version of the format.
    if content.startswith(b"\x08"):
        return File(read_onnx(content), "", "onnx", {}, ())
    for start, what in _OTHERS.items():
        if content.startswith(start):
            raise RefusedFileError(f"is {what}")
    raise RefusedFileError(f"is none of {ALLOWED} (it starts with {content[:12]!r}); {_AGAIN}")


def _parse_zip(content: bytes) -> File:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise DamagedFileError(f"zip archive: {error}") from error
    if "model.weights.h5" in names:
        raise RefusedFileError("is a .keras archive; unzip it and give the model.weights.h5 in it")
    if names and all(name.endswith(".npy") for name in names):
        return _stripped(File(read_npz(content), "", "npz", {}, ()))
    if any(name.endswith("/data.pkl") for name in names):
        tensors, notes = read_torch(content)
        return _stripped(File(tensors, "", "torch", {}, notes))
    raise RefusedFileError(f"is a zip archive that neither torch nor numpy wrote; unzip it, or {_AGAIN}")


def _stripped(file: File) -> File:
    """Without the prefixes that a wrapper of the network put before every name."""
    tensors: Mapping[str, np.ndarray] = file.tensors
    notes = list(file.notes)
    while tensors and (prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in tensors)), None)):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        notes.append(f"stripped {prefix!r} from every name")
    return file._replace(tensors=dict(tensors), notes=tuple(notes))
