"""Where batches come from: the prepared array, on the device as a whole when it fits, else batch by batch from its memory map."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt8

# Share of the device's free memory that the images may take; the rest is for activations.
_SHARE_OF_DEVICE = 0.25
# On a CPU "the device" is the host's memory, where the memory map is cached anyway.
_HOST_BYTES = 1 << 30


class Feed(NamedTuple):
    """take: from rows to their images on the device; where: one line that says how."""

    take: Callable[[Int[np.ndarray, "b"]], UInt8[Array, "b h w 3"]]
    where: str


def make_feed(images: UInt8[np.ndarray, "n h w 3"]) -> Feed:
    """A feed of images."""
    budget = _budget_bytes()
    if images.nbytes <= budget:
        whole = jnp.asarray(images)
        gather = jax.jit(lambda rows: jnp.take(whole, rows, axis=0))
        return Feed(lambda rows: gather(rows.astype(np.int32)), f"{images.nbytes >> 20} MiB of images on the device as a whole")
    return Feed(
        lambda rows: jnp.asarray(images[rows]),
        f"{images.nbytes >> 20} MiB of images stay on disk, read batch by batch (budget on the device: {budget >> 20} MiB)",
    )


def epoch_order(labels: Int[np.ndarray, "n"], *, seed: int, epoch: int, balanced: bool = False) -> Int[np.ndarray, "n"]:
    """Positions in `labels`, an epoch's order; it depends on (seed, epoch) alone, so that a resumed trial sees the same
    batches. A permutation, or, balanced, n draws with replacement in which every class is equally likely."""
    rng = np.random.default_rng([seed, epoch])
    if not balanced:
        return rng.permutation(len(labels))
    weights = 1 / np.bincount(labels)[labels]
    return rng.choice(len(labels), len(labels), p=weights / weights.sum())


def _budget_bytes() -> int:
    memory = jax.devices()[0].memory_stats()
    if memory is None or "bytes_limit" not in memory:
        return _HOST_BYTES
    return int(_SHARE_OF_DEVICE * (memory["bytes_limit"] - memory["bytes_in_use"]))
