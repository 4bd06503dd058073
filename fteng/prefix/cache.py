"""The activations of one start at the entries that are kept: filled in one walk over the images, read by row and view."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int, Shaped

from fteng import paths
from fteng.config import TrainConfig
from fteng.data.prepare import Dataset
from fteng.distributed import agree, is_alone, is_main, wait
from fteng.entry import Entry
from fteng.errors import UserError
from fteng.feed import Feed, in_memory, on_device, padded, streamed
from fteng.locks import held
from fteng.mesh import Mesh
from fteng.prefix import kept_files
from fteng.prefix.budget import Choice
from fteng.prefix.walk import Walk, as_float32, rounding
from fteng.train.batches import Inputs, Picked, TrainingRows
from fteng.train.start import Start


class Layout(NamedTuple):
    """Which slot of a kept array holds what. plain, train: (images,) first slot of each row, -1 where it has none; a training
    image's views stand one after the other. views: how many; 0: only images as they are."""

    plain: Int[np.ndarray, "n"]
    train: Int[np.ndarray, "n"]
    views: int
    slots: int


def make_layout(dataset: Dataset, recipe: TrainConfig) -> Layout:
    """Not augmented: every image once. Augmented: validation and test images once, `train.views` views of each training image."""
    augmented, views = bool(recipe.augment), recipe.views
    plain, train = (np.full(len(dataset.labels), -1) for _ in range(2))
    rows = np.concatenate([dataset.splits[split] for split in (("val", "test") if augmented else ("train", "val", "test"))])
    plain[rows] = np.arange(len(rows))
    if not augmented:
        return Layout(plain, plain, 1, len(rows))
    mine = dataset.splits["train"]
    if views:
        train[mine] = len(rows) + np.arange(len(mine)) * views
    return Layout(plain, train, views, len(rows) + len(mine) * views)


class Kept(NamedTuple):
    """The activations at one entry. feed: of slots; error: of half precision, see `walk.rounding`, 0 in float32."""

    feed: Feed
    error: float


class CacheJob(NamedTuple):
    """What a walk goes over. identity: of everything the activations depend on beside their entry, for files on disk."""

    walk: Walk
    start: Start
    dataset: Dataset
    feed: Feed
    layout: Layout
    batch: int
    identity: Mapping[str, Any]


def fill(
    job: CacheJob, choices: Sequence[Choice], folder: Path, say: Callable[[str], None], on_images: Callable[[int], None]
) -> dict[Entry, Kept]:
    """Every chosen entry, from its file where one stands and is sound, else computed in one walk. on_images(k): k more are through.

    Of several processes that want files of one folder, one computes them, and the others wait and find them proven.
    Raises UserError when the disk is full, or where half precision overflows.
    """
    wanted = [choice for choice in choices if choice.place]
    with _turn(folder, say, on_images) if is_main() and any(choice.place == "disk" for choice in wanted) else nullcontext():
        return _fill(job, wanted, folder, say, on_images)


def _turn(folder: Path, say: Callable[[str], None], on_images: Callable[[int], None]) -> AbstractContextManager[None]:
    """Alone with the files of the folder."""
    told = False

    def on_wait() -> None:
        nonlocal told
        if not told:
            say(f"another process fills {folder}; waiting for it")
        told = True
        if is_alone():
            # A sign of life, and the moment at which a request to stop is heard; of several processes all hear it, or none.
            on_images(0)

    return held(folder / "lock", on_wait)


def _fill(
    job: CacheJob, wanted: Sequence[Choice], folder: Path, say: Callable[[str], None], on_images: Callable[[int], None]
) -> dict[Entry, Kept]:
    kept: dict[Entry, Kept] = {}
    for choice in wanted:
        if choice.place != "disk":
            continue
        key = _key(job, choice.entry)
        file = kept_files.file_of(folder, key)
        error = agree(kept_files.proven(file, key, say) if is_main() else None)
        if error is not None:
            kept[choice.entry] = Kept(_feed(np.load(file, mmap_mode="r"), "disk", job.walk.mesh), error)
    missing = [choice for choice in wanted if choice.entry not in kept]
    if missing:
        arrays, errors = _walk(job, missing, folder, on_images)
        for choice in missing:
            array, error = arrays.get(choice.entry), errors[choice.entry]
            if choice.place == "disk":
                key = _key(job, choice.entry)
                file = kept_files.file_of(folder, key)
                if array is not None:
                    kept_files.close(file, array, key, error)
                wait()
                array = np.load(file, mmap_mode="r")
            assert array is not None
            kept[choice.entry] = Kept(_feed(array, choice.place, job.walk.mesh), error)
    return kept


def inputs_at(job: CacheJob, kept: Mapping[Entry, Kept], entry: Entry) -> Inputs:
    """What trials that enter there take: from the cache, else recomputed from the nearest kept entry below, or from the images."""
    begin, (begins_at, kept_images) = _nearest(job, kept, entry), read_from(job, kept, entry)
    cached = kept.get(begin)

    def onward(x: Array) -> Array:
        if begin != entry:
            x = job.walk.leave(job.walk.onward(job.start, as_float32(x), begin.stage, entry.stage), entry)
        return as_float32(x)

    def train(wanted: TrainingRows, seed: int) -> Iterator[Array]:
        if kept_images and cached is not None:
            slots = Picked(wanted, lambda batch: job.layout.train[batch.rows] + batch.views % job.layout.views)
            return map(onward, cached.feed.batches(slots))
        return _recomputed(job, entry, wanted, seed)

    def plain(rows: Sequence[Int[np.ndarray, "b"]]) -> Iterator[Array]:
        if cached is not None:
            return map(onward, cached.feed.batches([job.layout.plain[part] for part in rows]))
        return (_from_images(job, entry, images, part) for part, images in zip(rows, job.feed.batches(rows), strict=True))

    return Inputs(train, plain, entry.stage, begins_at, kept_images)


def read_from(job: CacheJob, kept: Collection[Entry], entry: Entry) -> tuple[int, int]:
    """(stage whose kept output training reads, how many images are kept there); (0, 0): it begins at the images."""
    begin = _nearest(job, kept, entry)
    return (begin.stage, job.layout.slots) if begin in kept and job.layout.views else (0, 0)


def _nearest(job: CacheJob, kept: Collection[Entry], entry: Entry) -> Entry:
    # What was rounded below would not be what is computed from the images.
    lower = [low for low in kept if low.stage <= entry.stage and not low.pooled] if job.walk.exact else []
    return entry if entry in kept else max(lower, default=Entry(0))


def _recomputed(job: CacheJob, entry: Entry, wanted: TrainingRows, seed: int) -> Iterator[Array]:
    """A training's activations from its images. Views of a fixed number are the same for every seed, so that trials share them."""
    images = job.feed.batches(Picked(wanted, lambda batch: batch.rows))
    for index, seen in enumerate(images):
        batch = wanted[index]
        yield _from_images(job, entry, seen, batch.rows, batch.views, 0 if job.layout.views else seed)


def _from_images(
    job: CacheJob,
    entry: Entry,
    images: Array,
    rows: Int[np.ndarray, "b"],
    views: Int[np.ndarray, "b"] | None = None,
    seed: int = 0,
) -> Array:
    x = job.walk.onward(job.start, job.walk.begin(images, rows, views, seed), 0, entry.stage)
    return as_float32(job.walk.leave(x, entry))


def _walk(
    job: CacheJob, missing: Sequence[Choice], folder: Path, on_images: Callable[[int], None]
) -> tuple[dict[Entry, Shaped[np.ndarray, "slots *shape"]], dict[Entry, float]]:
    """Fills one array an entry, on every process, but a file on the first alone; each stage of each image (and view) is computed
    once."""
    shapes = job.walk.shapes(job.start, job.dataset.images.shape[1], job.batch)
    arrays: dict[Entry, np.ndarray] = {}
    if needed := sum(choice.bytes for choice in missing if choice.place == "disk"):
        folder.mkdir(parents=True, exist_ok=True)
        # A memory map is sparse: one after the other would all seem to fit.
        kept_files.check_room(folder, needed)
    for choice in missing:
        shape, dtype = (job.layout.slots, *shapes[choice.entry].shape[1:]), shapes[choice.entry].dtype
        if choice.place != "disk":
            arrays[choice.entry] = np.empty(shape, dtype)
        elif is_main():
            arrays[choice.entry] = kept_files.begin(kept_files.file_of(folder, _key(job, choice.entry)), shape, dtype)
    errors = {choice.entry: 0.0 for choice in missing}
    for rows, views, slots in _passes(job):
        parts = padded(np.arange(len(rows)), job.batch)
        for (part, counted), images in zip(parts, job.feed.batches([rows[part] for part, _ in parts]), strict=True):
            x, at = job.walk.begin(images, rows[part], None if views is None else views[part], 0), 0
            for entry in sorted(errors):
                x, at = job.walk.onward(job.start, x, at, entry.stage), entry.stage
                values = job.walk.mesh.fetch(job.walk.leave(x, entry))[:counted]
                if values.dtype != np.float32:
                    errors[entry] = max(errors[entry], _error(job, entry, x, values, counted))
                if entry in arrays:
                    arrays[entry][slots[part[:counted]]] = values
            on_images(counted)
    return arrays, errors


def _error(job: CacheJob, entry: Entry, x: Array, values: np.ndarray, counted: int) -> float:
    """Raises UserError where the kept precision has no such number."""
    if not np.isfinite(values).all():
        raise UserError(
            f"train.activations=float16: the outputs before boundary {entry.stage} are larger than it can hold (65504); use float32"
        )
    whole = job.walk.mesh.fetch(job.walk.pooled(x) if entry.pooled else x)[:counted]
    return rounding(whole, values)


def _passes(job: CacheJob) -> Iterator[tuple[np.ndarray, np.ndarray | None, np.ndarray]]:
    """(rows, views or None, slots) of everything that is kept."""
    layout = job.layout
    rows = np.flatnonzero(layout.plain >= 0)
    rows = rows[np.argsort(layout.plain[rows])]
    yield rows, None, layout.plain[rows]
    if layout.train is not layout.plain:
        mine = np.flatnonzero(layout.train >= 0)
        for view in range(layout.views):
            yield mine, np.full(len(mine), view), layout.train[mine] + view


def _feed(array: Shaped[np.ndarray, "slots *shape"], place: str, mesh: Mesh) -> Feed:
    size = f"{array.nbytes >> 20} MiB"
    if place == "device":
        return on_device(array, f"{size} on the device", mesh)
    if place == "disk":
        return streamed(array, f"{size} on disk", mesh)
    make = in_memory if jax.default_backend() == "cpu" else streamed
    return make(array, f"{size} in memory", mesh)


def _key(job: CacheJob, entry: Entry) -> str:
    return paths.digest({**job.identity, "entry": list(entry), "cuts": [list(cut) for cut in job.walk.entries]})
