"""Any data set of tensorflow-datasets that lies on disk, without TensorFlow: ArrayRecord files, read row by row."""

import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fteng.config import DataConfig
from fteng.data.groups import owner
from fteng.data.records import LeftOut, Note, Packed, Record, RecordSet
from fteng.errors import UserError

# What a split of a data set is here; `unsplit` is what our own builder calls images that nobody has split.
_GIVEN = {"train": "train", "validation": "val", "test": "test", "unsplit": ""}


def read_stored(config: DataConfig) -> RecordSet:
    """data.name names the data set (`cifar10`, `colorectal_histology`, `NAME/CONFIG`), data.path its data_dir.

    The image is the only image feature; the class is data.label_column. Splits called train, validation and test are kept as
    they are, rows of any other are left out. Raises UserError if it is not on disk, not in ArrayRecord, or has no such features.
    """
    # Takes a second, which only this source should pay.
    from tensorflow_datasets.core import features as kinds

    builder = _find(config)
    features = dict(builder.info.features.items())
    label = features.get(config.label_column)
    images = [name for name, feature in features.items() if isinstance(feature, kinds.Image)]
    if len(images) != 1 or not isinstance(label, kinds.ClassLabel):
        has = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in sorted(features.items()))
        raise UserError(
            f"tfds: {config.name!r} must have one Image and a ClassLabel called {config.label_column!r}, it has {has}; set"
            " data.label_column, or choose another data set"
        )
    # `group` is only the usual name; one that was asked for and is not there would silently part a patient's images.
    if config.group_column not in ("", "group", *features):
        raise UserError(
            f"tfds: {config.name!r} has no feature {config.group_column!r}, it has {', '.join(sorted(features))}; set"
            " data.group_column to one of them, or to nothing"
        )
    records: list[Record] = []
    left_out: list[LeftOut] = []
    notes: list[Note] = []
    for split in sorted(builder.info.splits):
        given = _GIVEN.get(split)
        if given is None:
            n = builder.info.splits[split].num_examples
            done = "left out: it is none of train, validation, test"
            notes.append(Note(f"split {split!r} of {n} images", done, (), (f"split {split!r}", n)))
            continue
        for record in _rows(builder, split, images[0], label, config):
            if record.label:
                records.append(record._replace(split=given if config.split_column else ""))
            else:
                left_out.append(LeftOut(record.id, "has no class"))
    twice = next((id_ for id_, n in Counter(record.id for record in records).items() if n > 1), None)
    if twice is not None:
        raise UserError(
            f"tfds: {config.name!r} has more than one image with the id {twice!r}; build it again with a feature `id` that is"
            " different for each image, or without one"
        )
    return RecordSet(config.name, tuple(records), tuple(left_out), tuple(notes))


def _find(config: DataConfig) -> Any:
    """The builder of a data set that lies on disk."""
    from tensorflow_datasets import core
    from tensorflow_datasets.core.read_only_builder import builder_from_files

    if not config.name:
        raise UserError("data.name is empty; give the tensorflow-datasets name, for example --config.data.name=cifar10")
    place = Path(config.path or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    try:
        builder = builder_from_files(config.name, data_dir=place)
    except (core.DatasetNotFoundError, OSError, ValueError) as error:
        raise UserError(
            f"tfds: {config.name!r} is not prepared in {place} ({str(error).splitlines()[0]}); prepare it: python -c"
            f" \"import tensorflow_datasets as tfds; tfds.builder('{config.name}', data_dir='{place}',"
            " file_format='array_record').download_and_prepare()\""
        ) from None
    stored_as = builder.info.file_format
    if stored_as is not core.FileFormat.ARRAY_RECORD:
        raise UserError(
            f"tfds: {config.name!r} in {place} is stored as {stored_as}, which cannot be read at random"
            " without TensorFlow; prepare it again with file_format='array_record'"
        )
    return builder


def _rows(builder: Any, split: str, image: str, label: Any, config: DataConfig) -> Iterator[Record]:
    """One record a row, its image still encoded and still on disk; label empty where the data set has none (-1)."""
    from tensorflow_datasets.core.decode import SkipDecoding

    # The same place may hold another build tomorrow.
    built = Path(builder.data_path, "dataset_info.json").stat().st_mtime_ns
    rows = builder.as_data_source(split, decoders={image: SkipDecoding()})
    for index in range(len(rows)):
        row = rows[index]
        text = {name: told for name, value in row.items() if name not in (image, config.label_column) and (told := _text(value))}
        id_ = text.pop("id", f"{split}-{index:06d}")
        number = int(row[config.label_column])
        packed = Packed(partial(_image, rows, index, image), f"{builder.data_path}/{built}/{split}/{index}")
        group = owner(text.pop(config.group_column, "")) or id_
        yield Record(id_, label.int2str(number) if number >= 0 else "", group, packed, text)


def _image(rows: Any, index: int, image: str) -> bytes:
    return rows[index][image]


def _text(value: Any) -> str:
    """A string or a whole number as text, empty for what is neither."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value) if isinstance(value, (int, np.integer)) else ""
