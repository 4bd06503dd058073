"""The network's answers to a set of images, for evaluation: running statistics, no augmentation, every image once."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from fteng.backbones.backbone import Backbone
from fteng.data.prepare import Dataset
from fteng.freeze.partition import Parameters
from fteng.results import Predictions
from fteng.train.feed import Feed
from fteng.train.step import head_logits

Forward = Callable[[Parameters, tuple[Any, ...], UInt8[Array, "b h w 3"]], Float[Array, "b classes"]]


def make_forward(backbone: Backbone, end: int) -> Forward:
    """The jitted function from parameters, statistics and images to logits, through the first `end` stages."""

    def forward(parameters: Parameters, stats: tuple[Any, ...], images: UInt8[Array, "b h w 3"]) -> Float[Array, "b classes"]:
        y, _ = backbone.apply(parameters.stages, stats, backbone.preprocess.apply(images), stop=end)
        return head_logits(parameters.head, backbone.pool(y))

    return jax.jit(forward)


def batches(rows: Int[np.ndarray, "n"], size: int) -> list[tuple[Int[np.ndarray, "{size}"], int]]:
    """(rows, how many of them count): the last batch repeats its last row, so that all have one shape."""
    padded = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [(np.pad(part, (0, size - len(part)), mode="edge"), len(part)) for part in padded]


def predict(
    forward: Forward,
    parameters: Parameters,
    stats: tuple[Any, ...],
    feed: Feed,
    dataset: Dataset,
    split: str,
    batch_size: int,
) -> Predictions:
    """Logits of every image of `split`, in the order of the split."""
    rows = dataset.splits[split]
    padded = batches(rows, batch_size)
    images = feed.batches([part for part, _ in padded])
    parts = [np.asarray(forward(parameters, stats, seen))[:counted] for (_, counted), seen in zip(padded, images, strict=True)]
    return Predictions(dataset.ids[rows], dataset.groups[rows], dataset.labels[rows], np.concatenate(parts))
