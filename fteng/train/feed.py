"""Where batches come from: an array, on the device as a whole when it fits, else read ahead from its memory map."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Shaped, UInt8

from fteng.distributed import agree
from fteng.mesh import ALONE, Mesh

# Share of the device's free memory that the images may take; the rest is for activations.
_SHARE_OF_DEVICE = 0.25
# On a CPU "the device" is the host's memory, where the memory map is cached anyway.
_HOST_BYTES = 1 << 30
# Batches that wait on the device while one is in use, and threads that read them (a disk likes two requests better than one).
_BATCHES_AHEAD = 4
_READERS = 2


@runtime_checkable
class BatchRows(Protocol):
    """The rows of each batch, in the order in which they are wanted: a list, or anything that makes them when asked."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Int[np.ndarray, "b"]: ...


class Feed(NamedTuple):
    """take: from rows to their items on the device; batches: the same for each batch wanted, read ahead where they are streamed;
    where: one line that says how; mesh: over which batches are split. Items are images or activations; wherever they lie, they come
    as the same bits."""

    take: Callable[[Int[np.ndarray, "b"]], Array]
    batches: Callable[[BatchRows], Iterator[Array]]
    where: str
    mesh: Mesh = ALONE


def make_feed(images: UInt8[np.ndarray, "n h w 3"], mesh: Mesh = ALONE) -> Feed:
    """A feed of images: on the device (each of the mesh) as a whole where they fit."""
    budget = agree(_budget_bytes() // mesh.all_devices if jax.default_backend() == "cpu" else _budget_bytes())
    if images.nbytes > budget:
        where = f"{images.nbytes >> 20} MiB of images, streamed from disk (budget on the device: {budget >> 20} MiB)"
        return streamed(images, where, mesh)
    there = "the device" if mesh.all_devices == 1 else f"each of {mesh.all_devices} devices"
    return on_device(images, f"{images.nbytes >> 20} MiB of images on {there} as a whole", mesh)


def on_device(items: Shaped[np.ndarray, "n *shape"], where: str, mesh: Mesh = ALONE) -> Feed:
    """A feed whose items lie on the device, on each of a mesh."""
    whole = jnp.asarray(items) if mesh.grid is None else mesh.whole(items)
    # An argument: what a jitted function closes over becomes a constant of its program.
    gather = jax.jit(lambda whole, rows: mesh.split(jnp.take(whole, rows, axis=0)))

    def take(rows: Int[np.ndarray, "b"]) -> Array:
        return gather(whole, mesh.batch(rows.astype(np.int32)))

    def batches(wanted: BatchRows) -> Iterator[Array]:
        return (take(wanted[index]) for index in range(len(wanted)))

    return Feed(take, batches, where, mesh)


def in_memory(items: Shaped[np.ndarray, "n *shape"], where: str, mesh: Mesh = ALONE) -> Feed:
    """A feed for a CPU, whose device is the host's memory: nothing to send, nothing to read ahead."""

    def take(rows: Int[np.ndarray, "b"]) -> Array:
        return mesh.take(items, rows)

    def batches(wanted: BatchRows) -> Iterator[Array]:
        return (take(wanted[index]) for index in range(len(wanted)))

    return Feed(take, batches, where, mesh)


def streamed(items: Shaped[np.ndarray, "n *shape"], where: str, mesh: Mesh = ALONE) -> Feed:
    """Grain's threads copy rows out of the memory map and on to the device while the step before runs; processes would have to
    send every batch, and there is nothing left to compute."""
    plain = np.asarray(items)

    def take(rows: Int[np.ndarray, "b"]) -> Array:
        return mesh.take(plain, rows)

    def batches(wanted: BatchRows) -> Iterator[Array]:
        # Takes seconds, which only a streamed study should pay.
        import grain

        options = grain.ReadOptions(num_threads=_READERS, prefetch_buffer_size=_BATCHES_AHEAD)
        ahead = iter(grain.MapDataset.range(len(wanted)).map(lambda index: take(wanted[index])).to_iter_dataset(options))
        try:
            yield from ahead
        finally:
            ahead.close()

    return Feed(take, batches, where, mesh)


class Batch(NamedTuple):
    """What one step of training sees: rows of the data set, and which augmented view of each."""

    rows: Int[np.ndarray, "b"]
    views: Int[np.ndarray, "b"]


class Inputs(NamedTuple):
    """What the trials of one entry take. train: (rows of every step, seed) -> their activations, step by step; plain: the same of
    batches of rows as they are, not augmented; kept_images: how many a cache holds that
    training reads, 0: it computes them."""

    train: "Callable[[TrainingRows, int], Iterator[Array]]"
    plain: Callable[[Sequence[Int[np.ndarray, "b"]]], Iterator[Array]]
    kept_images: int

    @property
    def cached(self) -> bool:
        """Whether training reads from a cache."""
        return self.kept_images > 0


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


def _budget_bytes() -> int:
    memory = jax.local_devices()[0].memory_stats()
    if memory is None or "bytes_limit" not in memory:
        return _HOST_BYTES
    return int(_SHARE_OF_DEVICE * (memory["bytes_limit"] - memory["bytes_in_use"]))
