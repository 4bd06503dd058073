"""What a source of data yields: one record an image, what was left out, and what else was found."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np


class Packed(NamedTuple):
    """An encoded image inside a larger file. read: its bytes; key: changes whenever they do."""

    read: Callable[[], bytes]
    key: str


class Record(NamedTuple):
    """One labelled image.

    id: unique and stable; label: name of its class; group: what a split never cuts (patient, lesion, writer); image: a file, a
    part of one, or uint8 (h, w) or (h, w, 3); extra: what else is known of it (age, sex, site, licence); split: given by the
    source, or empty.
    """

    id: str
    label: str
    group: str
    image: Path | Packed | np.ndarray
    extra: Mapping[str, str] = MappingProxyType({})
    split: str = ""


class LeftOut(NamedTuple):
    """An image, or a file that is none, that the study does not use, and why. kind: the reason without what differs from image to
    image, where it does, so that reasons can be counted."""

    id: str
    reason: str
    kind: str = ""
    is_image: bool = True


class Note(NamedTuple):
    """Something about the data that a reader of the study should know: what was found, what was done, and where. excluded: (why,
    how many images) where it stands for images that a policy of the config leaves out, which are counted and not named."""

    found: str
    done: str
    ids: tuple[str, ...]
    excluded: tuple[str, int] | None = None


class RecordSet(NamedTuple):
    """Records in a stable order, what was left out of them, and what was found."""

    name: str
    records: tuple[Record, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[Note, ...] = ()
