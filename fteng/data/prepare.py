"""From a config to the data set that all trials share: read the source, decode once, join copies, split."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from fteng import paths
from fteng.config import DataConfig
from fteng.data.digits import read_digits
from fteng.data.duplicates import same_pixels
from fteng.data.folder import read_folder
from fteng.data.groups import join_groups
from fteng.data.idx import read_idx
from fteng.data.isic.archive import read_isic
from fteng.data.pixels import Pixels, Resampling, prepare_pixels, settings_of
from fteng.data.records import LeftOut, Note, Record, RecordSet
from fteng.data.splits import SPLITS, limit, split
from fteng.data.stored import read_stored
from fteng.data.table import read_rows
from fteng.errors import UserError

SOURCES: Mapping[str, Callable[[DataConfig], RecordSet]] = {
    "folder": read_folder,
    "table": read_rows,
    "isic": read_isic,
    "tfds": read_stored,
    "idx": read_idx,
    "digits": read_digits,
}


class Dataset(NamedTuple):
    """A data set as the trials see it; row i of every array is the same image.

    classes: names, sorted; images: (n, size, size, 3) uint8 memory map; labels: (n,) int64; ids, groups: (n,) str;
    splits: rows (k,) int64 of train, val and test; digest: of pixels, ids, labels, groups and split; report: counts for people;
    extra: what the source says beside (age, sex, site, ...), each (n,) str, empty where it says nothing.
    """

    name: str
    classes: tuple[str, ...]
    images: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    groups: np.ndarray
    splits: dict[str, np.ndarray]
    digest: str
    report: dict[str, Any]
    extra: Mapping[str, np.ndarray] = MappingProxyType({})


def cache_root(config: DataConfig) -> Path:
    """Where prepared arrays and compiled programs are kept."""
    return Path(config.cache_dir or os.environ.get("FTENG_CACHE") or "~/.cache/fteng").expanduser()


def read_records(config: DataConfig) -> RecordSet:
    """What the data are, without decoding an image. Raises UserError."""
    return SOURCES[config.source](config)


def prepare(
    config: DataConfig,
    resampling: Resampling,
    progress: Callable[[int, int], None],
    record_set: RecordSet | None = None,
) -> Dataset:
    """Read, unless `record_set` was read before, decode (or find decoded), split.

    resampling: what the weights want; progress(done, total) while it decodes. Raises UserError.
    """
    record_set = record_set or read_records(config)
    records = limit(_merge_classes(record_set.records, config.merge), config.limit, seed=config.split_seed)
    settings = settings_of(config, resampling)
    near = config.duplicates == "near"
    pixels = prepare_pixels(cache_root(config) / "prepared", records, settings, near=near, progress=progress)
    records = [record for record in records if record.id not in pixels.unreadable]
    left_out = [
        *record_set.left_out,
        *(LeftOut(id_, reason, reason.partition(":")[0]) for id_, reason in pixels.unreadable.items()),
    ]
    return _assemble(config, record_set._replace(records=tuple(records), left_out=tuple(left_out)), pixels)


def _assemble(config: DataConfig, record_set: RecordSet, pixels: Pixels) -> Dataset:
    """The data set of a record set whose records are the rows of `pixels`."""
    classes = tuple(sorted({record.label for record in record_set.records}))
    if len(classes) < 2:
        raise UserError(
            f"data: {len(record_set.records)} readable image(s) of {len(classes)} class(es); a study needs two or more: add images,"
            " or name the right label column or folder"
        )
    copies = _copies(pixels)
    records = _joined(record_set.records, [rows for found in copies.values() for rows in found])
    units, done = _units(config, record_set.records, records, copies)
    found = _notes_on_copies(record_set.records, copies, done)
    chosen = split(
        units,
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        seed=config.split_seed,
        folds=config.folds,
        fold=config.fold,
    )
    if any(record.split for record in records):
        found += _parted(records, chosen)
    labels = np.array([classes.index(record.label) for record in records], np.int64)
    ids, groups = (np.array([getattr(record, part) for record in records]) for part in ("id", "group"))
    splits = {part: np.flatnonzero(np.array(chosen) == part) for part in SPLITS}
    content = [
        (digest, record.id, record.label, record.group, part)
        for digest, record, part in zip(pixels.digests, records, chosen, strict=True)
    ]
    report = {
        "name": record_set.name,
        "source": config.source,
        "path": str(config.path),
        "classes": list(classes),
        "image_size": config.image_size,
        "resize": config.resize,
        "counts": {part: _count(classes[label] for label in labels[rows]) for part, rows in splits.items()},
        "groups": {part: len(set(groups[rows].tolist())) for part, rows in splits.items()},
        "groups_of_class": {
            part: {name: len(set(groups[rows][labels[rows] == index].tolist())) for index, name in enumerate(classes)}
            for part, rows in splits.items()
        },
        "left_out": [item._asdict() for item in record_set.left_out],
        "notes": [note._asdict() | {"ids": list(note.ids)} for note in (*record_set.notes, *found)],
    }
    names = sorted({name for record in records for name in record.extra})
    extra = {name: np.array([record.extra.get(name, "") for record in records]) for name in names}
    return Dataset(record_set.name, classes, pixels.images, labels, ids, groups, splits, paths.digest(content), report, extra)


def _parted(records: Sequence[Record], chosen: Sequence[str]) -> list[Note]:
    """A note if copies of an image stand in different splits of a given split."""
    parts: dict[str, set[str]] = defaultdict(set)
    for record, part in zip(records, chosen, strict=True):
        parts[record.group].add(part)
    ids = tuple(record.id for record in records if len(parts[record.group]) > 1)
    return [Note("copies of an image on both sides of the given split", "kept there; scores may flatter", ids)] if ids else []


def _copies(pixels: Pixels) -> dict[str, list[list[int]]]:
    """What kind of copies -> clusters of rows; a cluster of identical images is not named again among the nearly identical."""
    identical = same_pixels(pixels.digests)
    known = {tuple(rows) for rows in identical}
    return {"identical images": identical, "nearly identical images": [rows for rows in pixels.near if tuple(rows) not in known]}


def _joined(records: Sequence[Record], clusters: Iterable[Sequence[int]]) -> list[Record]:
    """Records of a cluster of rows come into one group, and so do the groups they were in.

    It is called like the largest of them, so that a copy that comes in later follows its patient and not the reverse.
    """
    sizes = Counter(record.group for record in records)
    links = ([records[row].group for row in rows] for rows in clusters)
    joined = join_groups(links, lambda group: (-sizes[group], group))
    return [record._replace(group=joined.get(record.group, record.group)) for record in records]


def _units(
    config: DataConfig, alone: Sequence[Record], joined: list[Record], copies: Mapping[str, list[list[int]]]
) -> tuple[list[Record], str]:
    """The records in the groups that the split is to keep whole, and what that means for copies; alone: in their own groups."""
    if any(record.split for record in alone):
        # Who gives a split answers for it: copies on both sides of it are reported, not refused. Only its train is ours to cut.
        ours = [[row for row in rows if alone[row].split == "train"] for found in copies.values() for rows in found]
        return _joined(alone, ours), "kept; only the given split may part them"
    if config.split_by == "group":
        return joined, "kept; a split never parts them"
    return [record._replace(group=record.id) for record in joined], "kept; data.split_by=image may part them"


def _notes_on_copies(records: Sequence[Record], copies: Mapping[str, list[list[int]]], done: str) -> list[Note]:
    notes = []
    for what, found in copies.items():
        if found:
            ids = tuple(" = ".join(records[row].id for row in rows) for rows in found)
            notes.append(Note(what, done, ids))
        disputed = [rows for rows in found if len({records[row].label for row in rows}) > 1]
        if disputed:
            ids = tuple(" = ".join(f"{records[row].id} ({records[row].label})" for row in rows) for rows in disputed)
            notes.append(Note(f"{what} with different labels", "kept as they are; look at them", ids))
    return notes


def _count(labels: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(labels).items()))


def _merge_classes(records: Sequence[Record], merge: Sequence[str]) -> list[Record]:
    """Labels renamed as data.merge asks. Raises UserError on an entry that is not `new=old1+old2` of known classes."""
    names: dict[str, str] = {}
    known = {record.label for record in records}
    for entry in merge:
        new, equals, old = entry.partition("=")
        wrong = sorted(set(old.split("+")) - known)
        if not equals or not new or wrong:
            raise UserError(
                f"data.merge: got {entry!r}{f' ({wrong[0]!r} is no class)' if equals and wrong else ''}, allowed: new=old1+old2"
                f" with classes of {', '.join(sorted(known))}"
            )
        names |= dict.fromkeys(old.split("+"), new)
    return [record._replace(label=names.get(record.label, record.label)) for record in records]
