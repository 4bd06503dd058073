"""Arrays on disk that prove what they are: a file is used again only if its key, its size and its sha256 are right."""

import hashlib
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from fteng import paths
from fteng.errors import UserError

# Read at a time to verify a file.
_CHUNK = 1 << 24


def file_of(folder: Path, key: str) -> Path:
    """Where the array of this key stands."""
    return folder / f"{key[:16]}.npy"


def begin(file: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A memory map to fill, under another name until `close`."""
    return open_memmap(_beside(file), mode="w+", dtype=dtype, shape=shape)


def close(file: Path, array: np.ndarray, key: str, error: float) -> None:
    """What `begin` gave, filled: under its name, and beside it what proves it. error: of its precision, kept with it."""
    array.flush()  # pyright: ignore[reportAttributeAccessIssue]
    beside = _beside(file)
    proof = {"key": key, "sha256": _sha256(beside), "bytes": beside.stat().st_size, "error": error}
    beside.replace(file)
    paths.write_json(file.with_suffix(".json"), proof)


def proven(file: Path, key: str, say: Callable[[str], None]) -> float | None:
    """The error of what stands on disk; None, and the user is told why, where it is of something else, cut off or damaged."""
    proof_file = file.with_suffix(".json")
    if not file.exists():
        return None
    wrong = ""
    try:
        proof = paths.read_json(proof_file)
        if proof["key"] != key:
            wrong = "is of another study"
        elif file.stat().st_size != proof["bytes"]:
            wrong = f"has {file.stat().st_size} bytes in place of {proof['bytes']}"
        elif _sha256(file) != proof["sha256"]:
            wrong = "is damaged"
        else:
            return float(proof["error"])
    except (OSError, UserError, KeyError, TypeError, ValueError):
        wrong = "has no proof beside it"
    say(f"{file} {wrong}; its activations are computed again")
    return None


def check_room(folder: Path, needed: int) -> None:
    """Raises UserError where the disk has fewer bytes left."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"the disk of {folder} is full: activations need {needed >> 20} MiB, {free >> 20} MiB are free; make room, or give"
            " sweep.cache_disk_gib less"
        )


def _beside(file: Path) -> Path:
    return file.with_name(f".{file.name}")


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        for chunk in iter(partial(opened.read, _CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()
