"""Where batches come from: an array, on the device as a whole when it fits, else read ahead from its memory map."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Shaped, UInt8

from fteng.distributed import agree
from fteng.machine import free_on_device
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


def padded(rows: Int[np.ndarray, "n"], size: int) -> list[tuple[Int[np.ndarray, "{size}"], int]]:
    """(rows, how many of them count): the last batch repeats its last row, so that all have one shape."""
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [(np.pad(part, (0, size - len(part)), mode="edge"), len(part)) for part in parts]


def _budget_bytes() -> int:
    free = free_on_device()
    return _HOST_BYTES if free is None else int(_SHARE_OF_DEVICE * free)
