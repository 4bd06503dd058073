"""One pass over the images: pooled features of every stage, and the moments that the profile compares."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int, UInt8

from fteng.backbones.backbone import Backbone, BatchNormMode
from fteng.backbones.weights import Weights
from fteng.data.prepare import Dataset
from fteng.feed import Feed, padded
from fteng.mesh import ALONE, Mesh
from fteng.probe.moments import add_moments, central_moments, image_moments, moments_of_all

Tree = Any


class Moments(NamedTuple):
    """What images look like inside a network: float64 `mean` and biased `var` a channel, one entry a stage.

    inputs: a tree like the batch-norm statistics, of each layer's input; outputs: of the stage's output, over images and places.
    """

    inputs: tuple[Tree, ...]
    outputs: tuple[Tree, ...]


class Features(NamedTuple):
    """taps: one a stage, rows as in the data set; moments: of the training images; parts: of at most 63 parts of them, equally many
    whole batches each, no group in two but where a batch ends."""

    taps: list[Float32[np.ndarray, "n _"]]
    moments: Moments
    parts: list[Moments]


class _Batch(NamedTuple):
    """What one batch says; the arrays are still on the device, but for `outputs`, which are of the images that count, or None where
    nobody asked. Of `pooled` the first len(rows) rows count."""

    rows: Int[np.ndarray, "_"]
    pooled: list[Array]
    inputs: tuple[Tree, ...]
    outputs: tuple[Tree, ...] | None


def extract(
    backbone: Backbone, weights: Weights, dataset: Dataset, feed: Feed, batch_size: int, on_images: Callable[[int], None]
) -> Features:
    """Run every image once through every stage, with the source statistics. on_images(k): k more images are through."""
    run, mesh = _one_batch(backbone, feed.mesh), feed.mesh
    taps = [np.empty((len(dataset.labels), channels), np.float32) for channels in backbone.channels]
    running, whole = _Running(), _WholeBatches([])
    for split, rows in dataset.splits.items():
        # Sources come class by class; parts of the training images are to be alike, and to cut no group.
        ordered = _groups_in_turn(dataset, rows) if split == "train" else rows
        for batch in _pass(run, weights, ordered, feed, batch_size, wanted=split == "train"):
            for tap, values in zip(taps, batch.pooled, strict=True):
                tap[batch.rows] = mesh.fetch(values)[: len(batch.rows)]
            if split == "train":
                running = _added(running, batch, batch_size)
                if len(batch.rows) == batch_size:
                    whole.add(batch)
            on_images(len(batch.rows))
    return Features(taps, _moments(running), whole.parts())


def observe(
    backbone: Backbone, weights: Weights, rows: Int[np.ndarray, "n"], feed: Feed, batch_size: int, on_images: Callable[[int], None]
) -> Moments:
    """The moments of these images alone, in memory that does not grow with their number. on_images: as of `extract`."""
    running = _Running()
    for batch in _pass(_one_batch(backbone, feed.mesh), weights, rows, feed, batch_size, wanted=True):
        running = _added(running, batch, batch_size)
        on_images(len(batch.rows))
    return _moments(running)


def output_widths(backbone: Backbone, weights: Weights, image_size: int) -> list[int]:
    """Channels of each stage's output, which may be fewer than its features have. Nothing is computed."""
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.uint8)
    _, _, outputs = jax.eval_shape(_one_batch(backbone, ALONE), weights.params, weights.stats, images, np.bool_(True))
    return [layer["mean"].shape[1] for layer in outputs]


def _one_batch(backbone: Backbone, mesh: Mesh) -> Callable[..., tuple[list[Array], tuple[Tree, ...], tuple[Tree, ...]]]:
    # Weights are arguments, so that the network with other numbers is the same program.
    def one_batch(
        params: Any, stats: Any, images: UInt8[Array, "b h w 3"], wanted: Bool[Array, ""]
    ) -> tuple[list[Array], tuple[Tree, ...], tuple[Tree, ...]]:
        outputs, stats = backbone.outputs(params, stats, backbone.preprocess.apply(images), modes=BatchNormMode.OBSERVE)
        moments = mesh.join((stats, tuple(image_moments(y, wanted) for y in outputs)))
        return [mesh.split(backbone.pool(y)) for y in outputs], *moments

    return jax.jit(one_batch)


def _pass(
    run: Callable[..., Any], weights: Weights, rows: Int[np.ndarray, "n"], feed: Feed, batch_size: int, *, wanted: bool
) -> Iterator[_Batch]:
    """wanted: whether the moments of outputs are."""
    parts = padded(rows, batch_size)
    images = feed.batches([part for part, _ in parts])
    params, stats, asked = feed.mesh.whole((weights.params, weights.stats, jnp.asarray(wanted)))
    for (part, counted), seen in zip(parts, images, strict=True):
        with feed.mesh.tracing():
            pooled, inputs, outputs = run(params, stats, seen, asked)
        yield _Batch(part[:counted], pooled, inputs, moments_of_all(outputs, counted) if wanted else None)


class _Running(NamedTuple):
    """Sums so far of `inputs` over whole batches, and of `outputs` over images."""

    inputs: Tree = None
    whole_batches: int = 0
    outputs: Tree = None
    images: int = 0


def _added(running: _Running, batch: _Batch, batch_size: int) -> _Running:
    counted = len(batch.rows)
    inputs, whole = running.inputs, running.whole_batches
    # Batch norm counts the last image of a padded batch more than once; a set smaller than a batch has nothing else.
    if counted == batch_size or whole == 0:
        inputs, whole = add_moments(inputs, batch.inputs, 1), whole + 1
    return _Running(inputs, whole, add_moments(running.outputs, batch.outputs, counted), running.images + counted)


def _groups_in_turn(dataset: Dataset, rows: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """The rows with the images of a group beside each other, groups in a random order, seeded."""
    names, member = np.unique(dataset.groups[rows], return_inverse=True)
    return rows[np.argsort(np.random.default_rng(0).permutation(len(names))[member], kind="stable")]


class _WholeBatches:
    """Sums over neighbouring whole batches, 32 to 63 of them: twice as many batches go into each when there would be 64."""

    def __init__(self, sums: list[Tree]) -> None:
        self.sums, self.each, self.open, self.count = sums, 1, None, 0

    def add(self, batch: _Batch) -> None:
        self.open = add_moments(self.open, (batch.inputs, batch.outputs), 1)
        self.count += 1
        if self.count < self.each:
            return
        self.sums.append(self.open)
        self.open, self.count = None, 0
        if len(self.sums) == 64:
            self.sums = [jax.tree.map(np.add, *self.sums[k : k + 2]) for k in range(0, 64, 2)]
            self.each *= 2

    def parts(self) -> list[Moments]:
        return [Moments(*central_moments(total, self.each)) for total in self.sums]


def _moments(running: _Running) -> Moments:
    return Moments(central_moments(running.inputs, running.whole_batches), central_moments(running.outputs, running.images))
