"""The network's answers to a set of images, for evaluation: running statistics, no augmentation, every image once."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from fteng.backbones.backbone import Backbone
from fteng.data.prepare import Dataset
from fteng.entry import Entry
from fteng.feed import padded
from fteng.freeze.partition import Parameters
from fteng.mesh import ALONE, Mesh
from fteng.results import Predictions
from fteng.train.batches import Inputs
from fteng.train.step import head_logits

Forward = Callable[[Parameters, tuple[Any, ...], Float[Array, "b *place c"]], Float[Array, "b classes"]]


def make_forward(backbone: Backbone, entry: Entry, end: int) -> Forward:
    """The jitted function from parameters, statistics and activations at `entry` to logits, through stages up to `end`."""

    def forward(parameters: Parameters, stats: tuple[Any, ...], x: Float[Array, "b *place c"]) -> Float[Array, "b classes"]:
        if entry.pooled:
            return head_logits(parameters.head, x)
        y, _ = backbone.apply(parameters.stages, stats, x, start=entry.stage, stop=end)
        return head_logits(parameters.head, backbone.pool(y))

    return jax.jit(forward)


def predict(
    networks: Sequence[Callable[[Float[Array, "b *place c"]], Float[Array, "b classes"]]],
    inputs: Inputs,
    dataset: Dataset,
    split: str,
    batch_size: int,
    mesh: Mesh = ALONE,
    on_batch: Callable[[], None] = lambda: None,
) -> list[Predictions]:
    """Logits of every image of `split`, in the order of the split, by each of `networks`, from one pass over its images.
    mesh: on which the networks are; on_batch: called after each."""
    rows = dataset.splits[split]
    parts_of_split = padded(rows, batch_size)
    parts: list[list[np.ndarray]] = [[] for _ in networks]
    for (_, counted), x in zip(parts_of_split, inputs.plain([part for part, _ in parts_of_split]), strict=True):
        # All are asked before the first is waited for: they may be on devices of their own.
        found = [network(x) for network in networks]
        for answers, logits in zip(parts, found, strict=True):
            answers.append(mesh.fetch(logits)[:counted])
        on_batch()
    shown = dataset.ids[rows], dataset.groups[rows], dataset.labels[rows]
    return [Predictions(*shown, np.concatenate(answers)) for answers in parts]
