"""Keras' HDF5 files: `.h5` of Keras 2 and of keras.applications, `.weights.h5` of Keras 3.

An HDF5 file can point into other files and unfold without end; only plain, uncompressed numbers that stand in this file
itself are read. The file is parsed by the HDF5 library, in C: what is refused here is refused before any data are read.
"""

import re
from typing import Any

import ml_dtypes
import numpy as np

from fteng.backbones.files.errors import DamagedFileError, RefusedFileError
from fteng.backbones.files.extra import need

# What model.save puts before every name, and save_weights does not.
_SAVED_MODEL = "model_weights/"
# What a model saved whole keeps of its optimizer; its tensors are no weights.
_OPTIMIZER = ("optimizer_weights", "optimizer")
_KERAS_3 = re.compile(r"(^|/)vars/\d+$")
# HDF5's own errors, as h5py raises them.
_DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)


def read_keras(content: bytes) -> tuple[dict[str, np.ndarray], str, tuple[str, ...]]:
    """Arrays by path (`block1_conv1/block1_conv1/kernel:0`, `layers/conv2d/vars/0`), `keras-h5` or `keras-weights-h5`, notes.

    Raises DamagedFileError, RefusedFileError, or UserError where h5py is not installed.
    """
    h5py = need("h5py", "formats", "a Keras .h5 file")
    try:
        with h5py.File.in_memory(content) as file:
            datasets, notes = _datasets(h5py, file)
            arrays = {path.removeprefix(_SAVED_MODEL): _array(path, datasets[path]) for path in sorted(datasets)}
            return arrays, _format(file, datasets), notes
    except _DAMAGE as error:
        raise DamagedFileError(f"{type(error).__name__}: {error}") from error


def _datasets(h5py: Any, file: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Every dataset by its path. Raises RefusedFileError for a link that is not the one name of an object in this file."""
    found: dict[str, Any] = {}
    notes: list[str] = []
    seen = {h5py.h5o.get_info(file.id).addr}
    groups = [("", file)]
    while groups:
        prefix, group = groups.pop()
        for name in group:
            path = f"{prefix}{name}"
            if path in _OPTIMIZER:
                notes.append(f"left out {path}, the optimizer's state")
                continue
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise RefusedFileError(f"has a link to another place or file at {path[:80]!r}; save the weights themselves")
            node = group[name]
            address = h5py.h5o.get_info(node.id).addr
            if address in seen:
                raise RefusedFileError(f"has two names for one object, one of them {path[:80]!r}; save it with Keras")
            seen.add(address)
            if isinstance(node, h5py.Group):
                groups.append((f"{path}/", node))
            elif isinstance(node, h5py.Dataset):
                found[path] = node
            else:
                raise RefusedFileError(f"holds {path[:80]!r}, which is no array; save it with Keras")
    return found, tuple(notes)


def _array(path: str, dataset: Any) -> np.ndarray:
    shown = repr(path[:80])
    if dataset.external or dataset.is_virtual:
        raise RefusedFileError(f"keeps {shown} in another file; save the weights themselves")
    if dataset.id.get_create_plist().get_nfilters():
        raise RefusedFileError(f"holds {shown} compressed, which Keras does not do; rewrite it with h5repack -f NONE")
    dtype = dataset.dtype
    if dtype == np.dtype("V2") and _says_bfloat16(dataset):
        dtype = np.dtype(ml_dtypes.bfloat16)
    elif dtype.kind not in "fiub" or dtype.itemsize > 8 or dataset.shape is None:
        raise RefusedFileError(f"holds {shown} of type {dtype.str}; allowed: floats, integers, booleans")
    # Space that was declared and never written reads as zeros: a network of zeros, of any size.
    if dataset.nbytes > dataset.id.get_storage_size():
        raise DamagedFileError(f"{shown} declares {dataset.nbytes} bytes, {dataset.id.get_storage_size()} are there")
    array = np.asarray(dataset[()])
    return array.view(dtype) if dtype == ml_dtypes.bfloat16 else array.astype(dtype.newbyteorder("="))


def _says_bfloat16(dataset: Any) -> bool:
    word = dataset.attrs.get("dtype")
    return isinstance(word, str) and word == "bfloat16"


def _format(file: Any, datasets: dict[str, Any]) -> str:
    roots = [file, *(file[name] for name in file if name == "model_weights")]
    # A list of very many layers is split into layer_names0, layer_names1, ...
    if any(key in root.attrs for root in roots for key in ("layer_names", "layer_names0")):
        return "keras-h5"
    if any(_KERAS_3.search(path) for path in datasets):
        return "keras-weights-h5"
    raise RefusedFileError("is an HDF5 file, but not one that Keras wrote (no layer_names, no vars); save the model with Keras")
