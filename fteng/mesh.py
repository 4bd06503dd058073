"""Where arrays lie: batches split over the devices of a mesh, what trains whole on each of them, what is frozen as one likes.

A step is one program over all images of a batch, whoever holds them: batch norm that follows the batch, mixup and dropout see what
they see on one device. XLA's partitioner puts in the sums over devices.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Int, Shaped

from fteng.errors import UserError

Tree = Any
_TRIALS, _DATA = "trials", "data"


class Mesh(NamedTuple):
    """grid: axes `trials` (a lane each) and `data`, over the devices of all processes in turn; None: one device, where arrays lie
    as jax puts them and nothing is moved. What is not a trial's own lies on every lane. shard_frozen: frozen parameters are split
    too, and gathered where a stage needs them."""

    grid: jax.sharding.Mesh | None = None
    shard_frozen: bool = False

    @property
    def devices(self) -> int:
        """That share a batch."""
        return 1 if self.grid is None else self.grid.shape[_DATA]

    @property
    def all_devices(self) -> int:
        """Of all lanes."""
        return self.devices * self.lanes

    @property
    def lanes(self) -> int:
        """Trials that train side by side."""
        return 1 if self.grid is None else self.grid.shape[_TRIALS]

    def lane(self, index: int) -> "Mesh":
        """The devices of one lane."""
        if self.grid is None or self.lanes == 1:
            return self
        return self._replace(grid=jax.sharding.Mesh(self.grid.devices[index : index + 1], self.grid.axis_names))

    def seen(self, tree: Tree) -> Tree:
        """Of arrays on all lanes, what lies on this one: nothing is moved."""
        return tree if self.grid is None else jax.tree.map(self._seen, tree)

    def take(self, items: Shaped[np.ndarray, "n *shape"], rows: Int[np.ndarray, "b"]) -> Shaped[Array, "b *shape"]:
        """items[rows] as a batch; of a device of this process, its own rows are read and no others."""
        if self.grid is None:
            # Unlike an index in brackets, np.take lets other threads run while pages come in.
            return jax.device_put(np.take(items, rows, axis=0))
        shape = (len(rows), *items.shape[1:])

        def read(index: Any) -> Shaped[np.ndarray, "part *shape"]:
            return np.take(items, rows[index[0]], axis=0)

        return jax.make_array_from_callback(shape, self._of_batch(len(rows)), read, dtype=items.dtype)

    def batch(self, values: Shaped[np.ndarray, "b *shape"]) -> Shaped[Array, "b *shape"]:
        """A batch that is here already."""
        if self.grid is None:
            return jax.device_put(values)
        return jax.make_array_from_callback(values.shape, self._of_batch(len(values)), lambda index: values[index])

    def whole(self, tree: Tree) -> Tree:
        """Each leaf on every device. Processes must bring the same."""
        return tree if self.grid is None else jax.tree.map(lambda leaf: _put(leaf, self._sharding()), tree)

    def frozen(self, tree: Tree) -> Tree:
        """What never changes: as `whole`, or where `shard_frozen` asks for it the largest axis of each leaf that the devices divide
        is split."""
        if self.grid is None:
            return tree
        return jax.tree.map(lambda leaf: _put(leaf, self._of_frozen(np.shape(leaf))), tree)

    def like_batch(self, like: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        """The shape of a batch, and where it lies."""
        return like if self.grid is None else _like(like, self._of_batch(like.shape[0]))

    def like_whole(self, tree: Tree) -> Tree:
        """The shapes of `whole`, and where it lies."""
        return tree if self.grid is None else jax.tree.map(lambda leaf: _like(leaf, self._sharding()), tree)

    def like_frozen(self, tree: Tree) -> Tree:
        """The shapes of `frozen`, and where it lies."""
        return tree if self.grid is None else jax.tree.map(lambda leaf: _like(leaf, self._of_frozen(leaf.shape)), tree)

    def split(self, x: Shaped[Array, "b *shape"]) -> Shaped[Array, "b *shape"]:
        """In a program: `x` lies as a batch does."""
        return x if self.grid is None else jax.lax.with_sharding_constraint(x, self._of_batch(x.shape[0]))

    def join(self, tree: Tree) -> Tree:
        """In a program: each leaf is on every device."""
        if self.grid is None:
            return tree
        return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, self._sharding()), tree)

    def fetch(self, x: Array) -> np.ndarray:
        """To the host of every process, whole. All processes must ask."""
        if self.grid is None or x.is_fully_addressable or x.is_fully_replicated:
            return np.asarray(x)
        return np.asarray(_gather(self._sharding())(x))

    def here(self, x: Array) -> Array:
        """Whole, on one device of every process. All processes must ask."""
        return x if self.grid is None else jax.device_put(self.fetch(x), jax.local_devices()[0])

    def compile(self, function: Callable[..., Tree], **options: Any) -> Any:
        """`jax.jit` of a function whose results are on every device."""
        placed: dict[str, Any] = {} if self.grid is None else {"out_shardings": self._sharding()}
        return jax.jit(function, **options, **placed)

    def tracing(self) -> AbstractContextManager[Any]:
        """While a program is traced: what it is made of may ask for the mesh."""
        return nullcontext() if self.grid is None else jax.sharding.set_mesh(self.grid)

    def _seen(self, leaf: Array) -> Array:
        assert self.grid is not None
        if leaf.sharding.device_set == set(self.grid.devices.flat):
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(self._seen(jax.random.key_data(leaf)))
        assert isinstance(leaf.sharding, NamedSharding)
        there = {shard.device: shard.data for shard in leaf.addressable_shards}
        mine = [there[device] for device in self.grid.devices.flat]
        return jax.make_array_from_single_device_arrays(leaf.shape, self._sharding(*leaf.sharding.spec), mine)

    def _sharding(self, *axes: str | None) -> NamedSharding:
        assert self.grid is not None
        return NamedSharding(self.grid, PartitionSpec(*axes))

    def _of_batch(self, images: int) -> NamedSharding:
        """A training batch is always split; the survey's may be smaller, and what it finds must not depend on the devices: one that
        they do not divide is worked on by each of them."""
        return self._sharding(_DATA) if images % self.devices == 0 else self._sharding()

    def _of_frozen(self, shape: tuple[int, ...]) -> NamedSharding:
        fits = [axis for axis, length in enumerate(shape) if length and length % self.devices == 0]
        if not self.shard_frozen or not fits:
            return self._sharding()
        axis = max(fits, key=lambda axis: shape[axis])
        return self._sharding(*[None] * axis, _DATA)


ALONE = Mesh()


def make_mesh(devices: int, batch: int, *, lanes: int = 1, shard_frozen: bool = False) -> Mesh:
    """A mesh of so many devices of each process (0: all) for training batches of `batch` images; with lanes, of so many a lane.

    Raises UserError where there are fewer, where processes have unequal numbers, the devices do not divide the batch, or lanes are
    asked of several processes.
    """
    processes = jax.process_count()
    theirs = [[device for device in jax.devices() if device.process_index == index] for index in range(processes)]
    has = min(map(len, theirs))
    if lanes > 1:
        _check_lanes(lanes, devices, has, processes)
        devices = lanes * (devices or has // lanes)
    if devices > has:
        each = " in each process" if processes > 1 else ""
        raise UserError(f"train.devices: got {devices}, but there are {has}{each}; allowed: 0 (all of them) or 1 to {has}")
    if devices == 0 and max(map(len, theirs)) > has:
        raise UserError(f"train.devices: got 0, but processes have {has} to {max(map(len, theirs))} devices; allowed: 1 to {has}")
    chosen = [device for mine in theirs for device in mine[: devices or has]]
    if len(chosen) == 1:
        return ALONE
    total = len(chosen) // lanes
    if batch % total:
        low = batch - batch % total
        near = f"{low} or {low + total}" if low else f"{total}"
        divisors = [k for k in range(1, has // lanes + 1) if batch % (k * processes) == 0]
        fewer = f", or train.devices to {', '.join(map(str, divisors))}" if divisors else ""
        raise UserError(
            f"a step of {batch} images cannot be shared by {total} devices; set train.batch_size to a multiple of {total}, such as"
            f" {near}{fewer} (a step never has more images than there are to train on)"
        )
    return Mesh(jax.sharding.Mesh(np.array(chosen).reshape(lanes, total), (_TRIALS, _DATA)), shard_frozen)


def on_each_device(
    run: Callable[..., Tree], images: Sequence[Shaped[Array, "b ..."]], whole: Sequence[Tree] = (), *, add: bool
) -> Tree:
    """In a program: run(*images, *whole) on each device of the traced mesh, with its own part of `images` and all of `whole`. add:
    its results are added over devices; else they are of its images, and lie as a batch does.

    For a loop over images, which XLA's partitioner does not split: it would gather all images on every device, and each would do
    the work of all. A batch that the devices do not divide is worked on by each of them.
    """
    traced = jax.sharding.get_abstract_mesh()
    # A mesh of somebody else's, who runs a backbone in a program of their own, is theirs.
    devices = traced.shape[_DATA] if traced.axis_names == (_TRIALS, _DATA) else 1
    if devices == 1 or images[0].shape[0] % devices:
        return run(*images, *whole)

    def mine(*arguments: Any) -> Tree:
        found = run(*arguments)
        return jax.lax.psum(found, _DATA) if add else found

    part, everywhere = PartitionSpec(_DATA), PartitionSpec()
    parts = (*[part] * len(images), *[everywhere] * len(whole))
    # Not checked: a loop that begins with zeros would have to say that they differ from device to device.
    return jax.shard_map(mine, in_specs=parts, out_specs=everywhere if add else part, check_vma=False)(*images, *whole)


def _check_lanes(lanes: int, devices: int, has: int, processes: int) -> None:
    if processes > 1:
        raise UserError(
            f"train.lanes: got {lanes} with {processes} processes, whose devices share each trial; allowed: 1; to train"
            " several trials at a time over hosts, use python -m launch.sweep"
        )
    if lanes * max(devices, 1) > has:
        each = f" of {devices} devices each" if devices > 1 else ""
        raise UserError(f"train.lanes: got {lanes}{each}, but devices here: {has}; allowed: 1 to {max(1, has // max(devices, 1))}")


def _like(leaf: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _put(leaf: Any, sharding: NamedSharding) -> Array:
    if isinstance(leaf, jax.Array):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(_put(jax.random.key_data(leaf), sharding))
        if leaf.sharding.is_equivalent_to(sharding, leaf.ndim):
            return leaf
        if not leaf.is_fully_addressable:
            return _gather(sharding)(leaf)
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    values = np.asarray(leaf)
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])


@lru_cache(maxsize=64)
def _gather(sharding: NamedSharding) -> Callable[[Array], Array]:
    return jax.jit(lambda x: x, out_shardings=sharding)
