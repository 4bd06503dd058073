"""What each step of a training sees, and how the activations of its images come: decided by seed and step alone."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from fteng.config import TrainConfig
from fteng.data.prepare import Dataset


class Length(NamedTuple):
    """Of a training. batch: images a step; per_epoch: steps, whole batches alone; steps: in all."""

    batch: int
    per_epoch: int
    steps: int


def length_of(recipe: TrainConfig, images: int) -> Length:
    """A set of `images` smaller than a batch is one batch."""
    per_epoch = max(1, images // recipe.batch_size)
    return Length(min(recipe.batch_size, images), per_epoch, recipe.epochs * per_epoch)


def class_shares(dataset: Dataset) -> Float[np.ndarray, "classes"]:
    """Share of each class among the training images; every class has at least one."""
    counts = np.bincount(dataset.labels[dataset.splits["train"]], minlength=len(dataset.classes))
    return counts / counts.sum()


class Batch(NamedTuple):
    """What one step of training sees: rows of the data set, and which augmented view of each."""

    rows: Int[np.ndarray, "b"]
    views: Int[np.ndarray, "b"]


class Inputs(NamedTuple):
    """What the trials of one entry take. train: (rows of every step, seed) -> their activations, step by step; plain: the same of
    batches of rows as they are, not augmented; entry: its stage; begin: the stage whose output training reads from a cache,
    0: it begins at the images; kept_images: how many that cache holds."""

    train: "Callable[[TrainingRows, int], Iterator[Array]]"
    plain: Callable[[Sequence[Int[np.ndarray, "b"]]], Iterator[Array]]
    entry: int
    begin: int
    kept_images: int

    @property
    def cached(self) -> bool:
        """Whether training reads what it needs from a cache, and computes nothing before the entry."""
        return self.kept_images > 0 and self.begin == self.entry


class TrainingRows:
    """The batch of each step of a training from step `start` up to `stop` (default: its end): whole batches, each epoch in its own
    order.

    rows: (n,) of the training images; labels: (n,) of each of them; views: how many augmented views an image has, which take
    turns from epoch to epoch (0: a fresh one at every step). Nothing but its arguments decides what a step sees, so a resumed
    trial sees what an undisturbed one does.
    """

    def __init__(
        self,
        rows: Int[np.ndarray, "n"],
        labels: Int[np.ndarray, "n"],
        *,
        batch: int,
        epochs: int,
        seed: int,
        balanced: bool,
        views: int = 1,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        self._rows, self._batch, self._views, self._start = rows, batch, views, start
        self._per_epoch = len(rows) // batch
        self._steps = self._per_epoch * epochs if stop is None else stop

        def order(epoch: int) -> Int[np.ndarray, "n"]:
            return epoch_order(labels, seed=seed, epoch=epoch, balanced=balanced)

        # Read ahead over the end of an epoch, two are in use.
        self._order = lru_cache(maxsize=2)(order)

    @classmethod
    def of(cls, dataset: Dataset, recipe: TrainConfig, *, seed: int, start: int = 0, stop: int | None = None) -> "TrainingRows":
        """Those of a trial of this recipe."""
        rows = dataset.splits["train"]
        return cls(
            rows,
            dataset.labels[rows],
            batch=length_of(recipe, len(rows)).batch,
            epochs=recipe.epochs,
            seed=seed,
            balanced=recipe.balance == "sampling",
            views=recipe.views if recipe.augment else 1,
            start=start,
            stop=stop,
        )

    def __len__(self) -> int:
        return self._steps - self._start

    def __getitem__(self, index: int, /) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        step = self._start + index
        epoch, place = divmod(step, self._per_epoch)
        rows = self._rows[self._order(epoch)[place * self._batch : (place + 1) * self._batch]]
        return Batch(rows, np.full(len(rows), epoch % self._views if self._views else step))


class Picked:
    """Rows made of `batches` one by one, when asked; so a reader ahead needs no list of a whole training."""

    def __init__(self, batches: TrainingRows, pick: Callable[[Batch], Int[np.ndarray, "b"]]) -> None:
        self._batches, self._pick = batches, pick

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int, /) -> Int[np.ndarray, "b"]:
        return self._pick(self._batches[index])


def epoch_order(labels: Int[np.ndarray, "n"], *, seed: int, epoch: int, balanced: bool = False) -> Int[np.ndarray, "n"]:
    """Positions in `labels`, an epoch's order; it depends on (seed, epoch) alone, so that a resumed trial sees the same
    batches. A permutation, or, balanced, n draws with replacement in which every class is equally likely."""
    rng = np.random.default_rng([seed, epoch])
    if not balanced:
        return rng.permutation(len(labels))
    weights = 1 / np.bincount(labels)[labels]
    return rng.choice(len(labels), len(labels), p=weights / weights.sum())
