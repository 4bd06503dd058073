"""Images and labels that are arrays already, as a data set. Imports no jax."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped

from fteng import config_check
from fteng.config import Config, DataConfig
from fteng.data.pixels import Resampling
from fteng.data.prepare import Dataset, prepare
from fteng.data.records import Record, RecordSet
from fteng.data.splits import split_name
from fteng.errors import UserError


def make_dataset(
    images: Shaped[np.ndarray, "..."],
    labels: Shaped[np.ndarray, "..."],
    *,
    groups: Sequence[Any] | Shaped[np.ndarray, "..."] | None = None,
    splits: Sequence[str] | Shaped[np.ndarray, "..."] | None = None,
    val_fraction: float = 0.2,
    test_fraction: float = 0.3,
    seed: int = 0,
    name: str = "arrays",
) -> Dataset:
    """The images with a split into train, val and test; row i is images[i].

    images: uint8 (n, size, size, 3), RGB, or (n, size, size), grey, which becomes RGB; 8 to 2048 pixels. labels: integers (n,), 0
    to classes - 1. groups: what a split never cuts (patient, writer), one an image, default: each its own; images of identical
    pixels are never parted. splits: `train`, `val` or `test`, one an image, where it is given; a part that no image names is taken
    from train. Else val_fraction and test_fraction are shares of the groups, and seed is that of the split. The pixels are kept in
    the cache directory ($FTENG_CACHE, else ~/.cache/fteng) and read from there. Raises UserError.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    square = images.ndim in (3, 4) and images.shape[1] == images.shape[2] and images.shape[3:] in ((), (3,))
    if images.dtype != np.uint8 or not square or not len(images):
        raise UserError(
            f"images: got {images.dtype} {images.shape}, allowed: uint8 (n, size, size, 3) or (n, size, size); scale to 0..255"
            " and resize before"
        )
    for what, given in (("labels", labels), ("groups", groups), ("splits", splits)):
        if given is not None and len(given) != len(images):
            raise UserError(f"{what}: got {len(given)} for {len(images)} images; give one each")
    classes = np.unique(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not np.array_equal(classes, np.arange(len(classes))):
        raise UserError(
            f"labels: got {labels.dtype} {labels.shape} from {classes.min()} to {classes.max()}, allowed: integers (n,) from 0,"
            " each there; numpy.unique(labels, return_inverse=True)[1] numbers them so"
        )
    # Names in the order of their numbers.
    digits = len(str(len(classes) - 1))
    ids = [f"{row:0{len(str(len(images) - 1))}d}" for row in range(len(images))]
    records = tuple(
        Record(
            ids[row],
            f"{labels[row]:0{digits}d}",
            ids[row] if groups is None else str(groups[row]),
            images[row],
            split="" if splits is None else split_name(splits[row]),
        )
        for row in range(len(images))
    )
    settings = DataConfig(
        name=name, image_size=images.shape[1], val_fraction=val_fraction, test_fraction=test_fraction, split_seed=seed
    )
    return prepare(
        config_check.validate(Config(data=settings)).data, Resampling("bilinear"), lambda _, __: None, RecordSet(name, records)
    )
