"""What a run leaves on disk, as types: predictions and the table of images. Imports no jax."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fteng.errors import UserError


class Predictions(NamedTuple):
    """The head's answers to one split, one row an image.

    ids: (n,) str, unique; groups: (n,) str, what a bootstrap resamples; labels: (n,) int64 in [0, classes);
    logits: (n, classes) float32, before the softmax.
    """

    ids: np.ndarray
    groups: np.ndarray
    labels: np.ndarray
    logits: np.ndarray


def write_images(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """One row an image; columns: each (n,), text or numbers."""
    pq.write_table(pa.table({name: pa.array(values.tolist()) for name, values in columns.items()}), path)


def read_images(path: Path) -> dict[str, np.ndarray]:
    """What `write_images` wrote: each column (n,)."""
    table = pq.read_table(path)
    return {name: np.asarray(table[name].to_pylist()) for name in table.column_names}


def write_predictions(path: Path, splits: Mapping[str, Predictions]) -> None:
    """Write the named splits to one Parquet file: columns split, id, group, label, logits (a list of `classes` float32)."""
    tables = []
    for split, predictions in splits.items():
        n, classes = predictions.logits.shape
        logits = pa.FixedSizeListArray.from_arrays(pa.array(predictions.logits.astype(np.float32).ravel()), classes)
        tables.append(
            pa.table(
                {
                    "split": pa.array([split] * n),
                    "id": pa.array(predictions.ids.tolist(), pa.string()),
                    "group": pa.array(predictions.groups.tolist(), pa.string()),
                    "label": pa.array(predictions.labels.astype(np.int64)),
                    "logits": logits,
                }
            )
        )
    pq.write_table(pa.concat_tables(tables), path)


def read_predictions(path: Path) -> dict[str, Predictions]:
    """The splits that `write_predictions` wrote. Raises UserError on a missing or broken file."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid):
        raise UserError(f"{path} is missing or damaged; delete the folder {path.parent} and run the study again") from None
    splits = np.asarray(table["split"].to_pylist())
    ids, groups = np.asarray(table["id"].to_pylist()), np.asarray(table["group"].to_pylist())
    labels = table["label"].to_numpy()
    column = table["logits"].combine_chunks()
    logits = column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)
    return {
        str(split): Predictions(ids[rows], groups[rows], labels[rows], logits[rows])
        for split in dict.fromkeys(splits.tolist())
        for rows in [np.flatnonzero(splits == split)]
    }
