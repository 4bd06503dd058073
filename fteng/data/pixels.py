"""Decode once: every image of a source as one uint8 array on disk, shared by all trials and processes through a memory map."""

import errno
import hashlib
import importlib.metadata
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fteng import paths
from fteng.config import DataConfig
from fteng.data.decode import decode, why_unreadable
from fteng.data.duplicates import SMALLEST, near_copies, pixel_digest
from fteng.data.records import Packed, Record
from fteng.errors import UserError
from fteng.locks import held

# Raised when what decode makes of a record changes: old arrays are then made anew.
_VERSION = 3
# Another version of these may make other pixels, or read what it could not before.
_DECODERS = ("pillow", "simplejpeg", "cykooz-resizer")
# A thread decodes so many before it hands over, which costs about what writing an image does.
_RECORDS_A_TASK = 8
_BYTES_A_SYNC = 32 << 20
_ROWS_LOOKED_AT = 256
# What is wrong with one file; any other error of the system is not the file's.
_FILE_ERRORS = {None, errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENOTDIR}

# An image and its digest, or why there is none.
_Found = tuple[np.ndarray, str] | str


class Settings(NamedTuple):
    """What decode needs beside the image."""

    size: int
    resize: str
    interpolation: str
    crop: float


class Resampling(NamedTuple):
    """How weights want an image made small. interpolation: bicubic or bilinear; crop: the share of the sides of its centre square
    that their own evaluation looks at."""

    interpolation: str
    crop: float = 1.0


def settings_of(config: DataConfig, wanted: Resampling) -> Settings:
    """How a study shows its images to weights. Only with `resize=weights` they are cropped."""
    return Settings(config.image_size, config.resize, wanted.interpolation, wanted.crop if config.resize == "weights" else 1.0)


class Pixels(NamedTuple):
    """images: (n, size, size, 3) uint8 memory map of what can be read, in the order of the records; digests: sha256 of each.

    unreadable: id -> reason, of records that have no row; near: clusters of rows that show nearly the same, if asked for.
    """

    images: np.ndarray
    digests: list[str]
    unreadable: dict[str, str]
    near: list[list[int]]


def prepare_pixels(
    root: Path, records: Sequence[Record], settings: Settings, *, near: bool, progress: Callable[[int, int], None]
) -> Pixels:
    """Find the array below root, or decode it: progress(done, total). Safe when processes do so at once. Raises UserError."""
    if near and settings.size < SMALLEST:
        raise UserError(f"data.duplicates=near needs data.image_size of at least {SMALLEST}, got {settings.size}")
    fingerprints = [(record.id, _fingerprint(record)) for record in records]
    decoders = {name: importlib.metadata.version(name) for name in _DECODERS}
    key = paths.digest({"version": _VERSION, "decoders": decoders, "settings": settings, "records": fingerprints})
    folder = root / key[:24]
    with _held(folder):
        images, meta = _find(folder) or _decode_all(folder, records, settings, progress)
        copies = _find_near(folder, images) if near else []
    return Pixels(images, meta["sha256"], dict(meta["unreadable"]), copies)


def _find_near(folder: Path, images: np.ndarray) -> list[list[int]]:
    """near_copies, kept beside the array."""
    file = folder / "near.json"
    if not file.exists():
        paths.write_json(file, near_copies(images))
    return paths.read_json(file)


def _fingerprint(record: Record) -> list[Any]:
    """Size and time of a file, not its content: reading every file at every start would cost what the cache saves.

    The digest of the data set is of the pixels themselves.
    """
    if isinstance(record.image, Packed):
        return [record.image.key]
    if isinstance(record.image, np.ndarray):
        return [hashlib.sha256(record.image.tobytes()).hexdigest(), list(record.image.shape)]
    try:
        status = record.image.stat()
    except OSError:
        return ["missing"]
    # The number says which file a link leads to, at a tenth of the time that following every path takes.
    file = [status.st_ino, status.st_size, status.st_mtime_ns]
    return [os.path.abspath(record.image), *file, os.access(record.image, os.R_OK)]  # noqa: PTH100 - as above


def _find(folder: Path) -> tuple[np.ndarray, dict[str, Any]] | None:
    """The array prepared before and what is known of it, if it is whole: of the right size, and rows spread over all of it have the
    pixels they had. Damage of single rows between those can go unseen; to hash everything would cost what the cache saves."""
    if not (folder / "meta.json").exists():
        return None
    try:
        meta = paths.read_json(folder / "meta.json")
        file, shape, digests = folder / "images.bin", tuple(meta["shape"]), meta["sha256"]
    except (UserError, KeyError, TypeError):
        return None
    if not file.exists() or file.stat().st_size != int(np.prod(shape)):
        return None
    images = np.memmap(file, np.uint8, "r", shape=shape)
    looked_at = np.unique(np.linspace(0, len(images) - 1, _ROWS_LOOKED_AT).astype(int))
    if any(pixel_digest(images[row]) != digests[row] for row in looked_at.tolist()):
        return None
    return images, meta


def _decode_all(
    folder: Path, records: Sequence[Record], settings: Settings, progress: Callable[[int, int], None]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Decode in threads (the decoders release the interpreter while they work); unreadable images are named and leave no row."""
    unreadable: list[tuple[str, str]] = []
    digests: list[str] = []

    def one(record: Record) -> tuple[np.ndarray, str] | str:
        try:
            image = decode(record.image, *settings)
            return image, pixel_digest(image)
        except MemoryError:
            raise UserError(f"not enough memory to decode {record.id}; nothing was prepared: free some and try again") from None
        except Exception as error:  # Pillow raises many kinds on broken files; each is named in the report
            if isinstance(error, OSError) and error.errno not in _FILE_ERRORS:
                raise UserError(f"cannot read {record.id} ({error.strerror}); nothing was prepared: try again") from None
            return why_unreadable(error)

    beside, synced, syncs = folder / "images.part", 0, []
    with beside.open("wb") as file, ThreadPoolExecutor(1) as writer:
        for done, (record, found) in enumerate(_in_threads(one, records), 1):
            if isinstance(found, str):
                unreadable.append((record.id, found))
            else:
                file.write(found[0].data)
                digests.append(found[1])
            if file.tell() - synced >= _BYTES_A_SYNC:
                # The disk works beside the decoders, instead of after them.
                synced = file.tell()
                syncs.append(writer.submit(os.fdatasync, file.fileno()))
            if done % _RECORDS_A_TASK == 0 or done == len(records):
                progress(done, len(records))
        for sync in syncs:
            sync.result()
        file.flush()
        # Before the rename: meta.json vouches for these bytes, also after a power cut.
        os.fsync(file.fileno())
    if not digests:
        first = ": ".join(unreadable[0])
        raise UserError(
            f"data: none of {len(records)} files is a readable image; the first: {first}; look at data.path and at the files"
        )
    # Its clusters are of rows of the array before.
    (folder / "near.json").unlink(missing_ok=True)
    beside.replace(folder / "images.bin")
    shape = [len(digests), settings.size, settings.size, 3]
    meta = {"shape": shape, "unreadable": unreadable, "sha256": digests, "settings": settings._asdict()}
    paths.write_json(folder / "meta.json", meta)
    return np.memmap(folder / "images.bin", np.uint8, "r", shape=tuple(shape)), meta


def _in_threads(one: Callable[[Record], _Found], records: Sequence[Record]) -> Iterator[tuple[Record, _Found]]:
    """(record, one(record)) in order, decoded a few tasks ahead of who asks: threads neither starve nor fill the memory."""
    parts = [records[start : start + _RECORDS_A_TASK] for start in range(0, len(records), _RECORDS_A_TASK)]
    ahead = 2 * (os.cpu_count() or 1)

    def some(part: Sequence[Record]) -> list[_Found]:
        return [one(record) for record in part]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running: deque[Future[list[_Found]]] = deque(pool.submit(some, part) for part in parts[:ahead])
        for index, part in enumerate(parts):
            found = running.popleft().result()
            if index + ahead < len(parts):
                running.append(pool.submit(some, parts[index + ahead]))
            yield from zip(part, found, strict=True)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """One process at a time prepares a folder; the others wait and then find it done. A disk that is full is a UserError."""
    try:
        with held(folder / "lock"):
            try:
                yield
            finally:
                (folder / "images.part").unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write prepared images to {folder} ({error.strerror}); make room, or set --config.data.cache_dir or FTENG_CACHE"
        ) from None
