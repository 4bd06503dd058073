"""Where the source's moments come from: batch norm, a file of `python -m fteng.source`, a shipped one; and that file's format.

A source profile is an .npz with `mean/STAGE` and `var/STAGE` (channels,) a stage, and `header`: JSON as UTF-8 bytes.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fteng import paths
from fteng.backbones.backbone import Backbone, Preprocess
from fteng.backbones.files.errors import DamagedFileError, RefusedFileError
from fteng.backbones.files.npz import read_npz
from fteng.backbones.weights import Weights
from fteng.errors import UserError
from fteng.probe.features import Moments

Tree = Any
MAKE = "make one with python -m fteng.source"
_ADVICE = (
    "profile images like those the network was pretrained on under these weights with python -m fteng.source, whose --help says"
    " how, and give the file as backbone.source_profile"
)
# Fields of the header, and of what type each is. `format` grows when a reader of today could misread a file.
_FORMAT = 1
_FIELDS = {
    "format": int,
    "backbone": str,
    "weights": str,
    "preprocess": str,
    "image_size": int,
    "resize": str,
    "images": int,
    "name": str,
    "about": str,
    "command": str,
    "versions": dict,
}
_TEXT_AT_MOST = 2000
# A profile of the largest network here has less than 1 MB.
_BYTES_AT_MOST = 1 << 26
_SHIPPED = Path(str(resources.files("fteng.backbones"))) / "profiles"


class Source(NamedTuple):
    """What the data are compared with.

    kind: batch_norm (moments of each layer's input), file (of each stage's output), none; moments: a tree a stage with `mean` and
    `var` a layer, empty where there is none; facts: for study.json: the kind, of a file its header, path and sha256, and where
    there is none `reason` and `advice`, what to do about it.
    """

    kind: str
    moments: tuple[Tree, ...]
    facts: dict[str, Any]

    def seen(self, data: Moments) -> tuple[Tree, ...]:
        """Moments of the data in the same places of the network as those of the source."""
        return data.inputs if self.kind == "batch_norm" else data.outputs


class ProfileFile(NamedTuple):
    """header: see _FIELDS; moments: stage -> `mean` and `var` (channels,) float32; sha256: of the file."""

    header: dict[str, Any]
    moments: dict[str, dict[str, np.ndarray]]
    sha256: str


def find_source(text: str, backbone: Backbone, weights: Weights, widths: Callable[[], Sequence[int]]) -> Source:
    """The source that `backbone.source_profile` names; empty: batch norm, else the shipped file of these weights, else none.

    widths: channels of each stage's output, asked for only where there is a file. Raises UserError on a file that is damaged or of
    another network, weights or preprocessing.
    """
    if text:
        path = Path(text).expanduser()
        file = read_profile(path)
        foreign = _foreign(file, backbone, weights)
        if foreign:
            raise UserError(f"backbone.source_profile: {path} is of {foreign}; {MAKE} under this network")
        return _of_file(file, text, backbone, widths())
    random = weights.digest.startswith("random:")
    if jax.tree.leaves(weights.stats) and not random:
        return Source("batch_norm", weights.stats, {"kind": "batch_norm"})
    reason, advice = f"{backbone.name} has no batch norm, and no source profile is shipped for these weights", _ADVICE
    if random:
        reason, advice = "the weights are random, so there are no images that they were pretrained on", ""
    shipped = _SHIPPED / shipped_name(backbone.name, weights.digest)
    if shipped.is_file():
        file = read_profile(shipped)
        foreign = _foreign(file, backbone, weights)
        if not foreign:
            return _of_file(file, f"shipped: {shipped.name}", backbone, widths())
        reason = f"the source profile shipped for these weights is of {foreign}"
    return Source("none", ((),) * len(backbone.stages), {"kind": "none", "reason": reason, "advice": advice})


def write_profile(path: Path, header: dict[str, Any], moments: dict[str, dict[str, np.ndarray]]) -> None:
    """Whole or not at all. header: all of _FIELDS but `format`; moments: stage -> `mean`, `var`."""
    text = json.dumps({"format": _FORMAT, **header}, allow_nan=False)
    arrays: dict[str, Any] = {"header": np.frombuffer(text.encode(), np.uint8)}
    for stage, layer in moments.items():
        arrays |= {f"{part}/{stage}": np.asarray(layer[part], np.float32) for part in ("mean", "var")}
    paths.write_by(path, lambda beside: np.savez_compressed(beside, **arrays))


def read_profile(path: Path) -> ProfileFile:
    """A file of `write_profile`. Raises UserError of one line; runs nothing that the file holds."""
    try:
        if not path.is_file():
            raise UserError(f"backbone.source_profile: no file {str(path)!r} (seen from {Path.cwd()}); {MAKE}")
        if path.stat().st_size > _BYTES_AT_MOST:
            raise UserError(f"backbone.source_profile: {path} has {path.stat().st_size} bytes, allowed: {_BYTES_AT_MOST}; {MAKE}")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"backbone.source_profile: cannot read {path} ({error.strerror}); {MAKE}") from None
    except ValueError as error:  # a zero byte in the path
        raise UserError(f"backbone.source_profile: cannot read {str(path)!r} ({error}); {MAKE}") from None
    try:
        arrays = read_npz(content)
        header = _header(arrays.pop("header", None))
        return ProfileFile(header, _moments(arrays), hashlib.sha256(content).hexdigest())
    except (DamagedFileError, RefusedFileError) as error:
        said = " ".join(str(error).split())[:300]
        raise UserError(f"backbone.source_profile: {path} is no source profile ({said}); {MAKE}") from None


def preprocess_digest(preprocess: Preprocess) -> str:
    """Of how images are scaled; not of their size, which the header gives."""
    return paths.digest([*map(list, (preprocess.mean, preprocess.std)), preprocess.channel_order, preprocess.interpolation])


def shipped_name(backbone: str, digest: str) -> str:
    """How the file is called that is shipped for these weights."""
    return f"{backbone}-{digest[:12]}.npz"


def _foreign(file: ProfileFile, backbone: Backbone, weights: Weights) -> str:
    """What other thing the file is of; empty if it is of this network, these weights and their way of scaling images."""
    wanted = {
        "backbone": ("another backbone", backbone.name),
        "weights": ("other weights (sha256)", weights.digest),
        "preprocess": ("images scaled in another way (digest)", preprocess_digest(backbone.preprocess)),
    }
    for name, (what, value) in wanted.items():
        if file.header[name] != value:
            return f"{what}: got {file.header[name][:64]!r}, needed {value!r}"
    return ""


def _of_file(file: ProfileFile, shown: str, backbone: Backbone, widths: Sequence[int]) -> Source:
    for stage, width in zip(backbone.stages, widths, strict=True):
        if stage in file.moments and len(file.moments[stage]["mean"]) != width:
            got = len(file.moments[stage]["mean"])
            raise UserError(f"backbone.source_profile: {shown} has {got} channels in {stage}, {backbone.name} has {width}; {MAKE}")
    facts = {"kind": "file", "path": shown, "sha256": file.sha256, **file.header}
    return Source("file", tuple(file.moments.get(stage, ()) for stage in backbone.stages), facts)


def _header(stored: np.ndarray | None) -> dict[str, Any]:
    if stored is None or stored.dtype != np.uint8 or stored.ndim != 1:
        raise DamagedFileError("it has no header")
    try:
        header = json.loads(stored.tobytes().decode())
    except (ValueError, RecursionError):
        raise DamagedFileError("its header is not JSON") from None
    if not isinstance(header, dict) or header.keys() != _FIELDS.keys():
        raise DamagedFileError(f"its header must have exactly {', '.join(_FIELDS)}")
    for name, kind in _FIELDS.items():
        if type(header[name]) is not kind:
            raise DamagedFileError(f"{name} in its header is no {kind.__name__}")
        if isinstance(header[name], str) and len(header[name]) > _TEXT_AT_MOST:
            raise DamagedFileError(f"{name} in its header is longer than {_TEXT_AT_MOST} characters")
    if header["format"] != _FORMAT:
        raise DamagedFileError(f"format {header['format']}, this version of fteng reads {_FORMAT}")
    if header["images"] < 1 or header["image_size"] < 1:
        raise DamagedFileError("its header counts no images")
    if not all(isinstance(text, str) and len(text) <= _TEXT_AT_MOST for text in header["versions"].values()):
        raise DamagedFileError("versions in its header are no strings")
    return header


def _moments(arrays: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, values in arrays.items():
        part, _, stage = name.partition("/")
        if part not in ("mean", "var") or not stage:
            raise DamagedFileError(f"it holds {name[:80]!r}; allowed: mean/STAGE, var/STAGE, header")
        if values.dtype.kind != "f" or values.ndim != 1 or not len(values):
            raise DamagedFileError(f"{name[:80]!r} is no list of floats")
        if not np.isfinite(values).all() or (part == "var" and values.min() < 0):
            raise DamagedFileError(f"{name[:80]!r} holds numbers that no {part} can be")
        found.setdefault(stage, {})[part] = values
    for stage, layer in found.items():
        if layer.keys() != {"mean", "var"} or len(layer["mean"]) != len(layer["var"]):
            raise DamagedFileError(f"mean and var of {stage[:80]!r} do not match")
    if not found:
        raise DamagedFileError("it has no stage")
    return found
