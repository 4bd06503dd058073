"""The engine without a config or a work directory: the probes of every stage, and one trial in a loop of your own.

What is here puts the engine's own functions together, and has no numbers of its own; a study takes the same ones.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from fteng import config_check
from fteng.analysis.metrics import evaluate
from fteng.backbones.backbone import Backbone
from fteng.backbones.weights import Weights
from fteng.config import Config, TrainConfig
from fteng.data.prepare import Dataset
from fteng.errors import UserError
from fteng.feed import make_feed
from fteng.freeze.partition import Parameters
from fteng.freeze.plan import FreezePlan
from fteng.machine import available_memory
from fteng.prefix import budget, cache
from fteng.prefix.walk import Walk
from fteng.probe.features import extract
from fteng.probe.probe import Probe, fit_probe
from fteng.train.batches import Inputs, TrainingRows, class_shares, length_of
from fteng.train.evaluate import make_forward, predict
from fteng.train.rates import rates_of
from fteng.train.shape import shape_of
from fteng.train.start import Start, untrained
from fteng.train.step import Frozen, TrainState, initial_state, make_step, whole
from fteng.trials import Variant

Tree = Any
# `adapt` is no way to train: it is other statistics to begin with.
_BATCH_NORM = ("keep", "batch", "batch_all")


class StageProbe(NamedTuple):
    """The linear classifier on one stage. probe: with its head, L2 strength and answers; val, test: metric -> value."""

    stage: str
    probe: Probe
    val: dict[str, float | None]
    test: dict[str, float | None]


def probe_stages(
    backbone: Backbone,
    weights: Weights,
    dataset: Dataset,
    *,
    batch_size: int = 64,
    on_images: Callable[[int], None] = lambda _: None,
) -> list[StageProbe]:
    """A linear classifier on the pooled features of every stage, in order (Alain and Bengio 2017), from one pass over the images.

    Logistic regression along a path of L2 strengths; the one that does best on images left out, by folds of train, is chosen.
    batch_size: images a step of the pass. on_images(k): k more are through. Raises UserError where the network wants other images.
    """
    _check_images(backbone, weights, dataset)
    taps = extract(backbone, weights, dataset, make_feed(dataset.images), batch_size, on_images).taps
    probes = [fit_probe(tap, dataset) for tap in taps]
    answers = [{split: evaluate(probe.predictions[split]) for split in ("val", "test")} for probe in probes]
    return [StageProbe(stage, probe, **found) for stage, probe, found in zip(backbone.stages, probes, answers, strict=True)]


class Trial:
    """One training run: what of it is frozen, its compiled step, its batches and its scores. It holds no state: `begin` makes one,
    and `step` gives the next.

    plan: from `prefix_plan` or `freeze.plan.stage_set_plan`; its last stage is the tap. head: where the new classifier starts,
    `kernel` (channels, classes) and `bias` (classes,), such as a probe's; None: zeros. learning_rate: the peak, before the recipe's
    schedule. batch_norm: `keep` (source statistics), `batch` (of stages that train, the batch's) or `batch_all`. recipe: batch
    size, epochs, optimizer, augmentation, ...; its `head_init` and `checkpoint_every` are for studies.

    frozen: what never changes. steps: of the whole run. Raises UserError on a plan of another network, on a head of another
    shape, and where a key is none.
    """

    def __init__(
        self,
        backbone: Backbone,
        weights: Weights,
        dataset: Dataset,
        plan: FreezePlan,
        *,
        head: Mapping[str, Any] | None = None,
        learning_rate: float = 1e-3,
        seed: int = 0,
        batch_norm: str = "keep",
        recipe: TrainConfig | None = None,
    ) -> None:
        end, classes = len(plan.stages), len(dataset.classes)
        _check_images(backbone, weights, dataset)
        if not end or plan.stages != backbone.stages[:end]:
            raise UserError(f"plan: got stages {', '.join(plan.stages)}, allowed: the first of {', '.join(backbone.stages)}")
        if batch_norm not in _BATCH_NORM:
            raise UserError(f"batch_norm: got {batch_norm!r}, allowed: {', '.join(_BATCH_NORM)}")
        if not 0 < learning_rate < np.inf:
            raise UserError(f"learning_rate: got {learning_rate}, allowed: above 0")
        recipe = config_check.validate(Config(train=dataclasses.replace(recipe or TrainConfig()))).train
        if (recipe.devices, recipe.lanes, recipe.shard_frozen) != (1, 1, False):
            raise UserError(
                "train.devices, train.lanes, train.shard_frozen: a trial of the library is on one device; run a study for several"
            )
        variant = Variant(batch_norm=batch_norm)
        shape, numbers = shape_of(plan, variant, recipe), (weights.params, weights.stats)
        heads = {plan.tap: _head(head, backbone.channels[end - 1], classes)}
        start = Start(*numbers, heads, {"weights": weights.digest}, numbers)
        network = untrained(start, shape)
        self._fresh = partial(initial_state, network, recipe)
        self.plan, self.recipe, self.entry = plan, recipe, shape.entry
        self.frozen: Frozen = self._fresh()[1]
        self._batch, _, self.steps = length_of(recipe, len(dataset.splits["train"]))
        self._dataset, self._labels, self._seed = dataset, dataset.labels.astype(np.int32), seed
        rates = rates_of(learning_rate, recipe, plan, variant, self.steps)
        self._arguments = jnp.asarray(rates), jax.random.key(seed)
        self._run = _jitted(make_step(backbone, shape, network.mask, recipe, class_shares(dataset)))
        self._forward = make_forward(backbone, self.entry, end)
        layout = cache.make_layout(dataset, recipe)
        walk = Walk(backbone, recipe, [self.entry])
        self._job = cache.CacheJob(walk, start, dataset, make_feed(dataset.images), layout, self._batch, {})

    def begin(self) -> TrainState:
        """The state at step 0. It owns its arrays, since `step` takes them."""
        return self._fresh()[0]

    def step(self, state: TrainState, x: Float[Array, "b *place c"], labels: Int32[Array, "b"]) -> TrainState:
        """The next state; `state` is used up (donated), and with it every array of it. x: of `batches`. Compiled at the first call.

        Gradients are taken for the trainable leaves alone, behind the boundary: what is frozen is in no differentiated function, in
        no optimizer state and not in the clipped norm. After the last step of the schedule the last rate goes on.
        """
        return self._run(state, self.frozen, x, labels, *self._arguments)

    def inputs(self, *, keep: bool, on_images: Callable[[int], None] = lambda _: None) -> Inputs:
        """The activations where the trial enters the network. keep: all computed now, once, and read from memory from then on; else
        at every batch, by the same compiled programs, to the same bits. on_images(k): k more are through.

        Trials of one network, data set, boundary and recipe may share them. Where nothing frozen comes before the entry (depth 0,
        mixup, batch_all) there is nothing to keep, and `cached` is False. Raises UserError where they do not fit into memory, or
        where augmentation draws a fresh view at every step.
        """
        kept: Mapping[Any, cache.Kept] = {}
        if keep and self.entry.stage:
            if not self._job.layout.views:
                raise UserError(
                    "train.augment with train.views=0 draws fresh views, which cannot be kept; set views, or keep=False"
                )
            one = self._job.walk.shapes(self._job.start, self._dataset.images.shape[1], 1)[self.entry]
            size, free = self._job.layout.slots * one.size * one.dtype.itemsize, available_memory()
            if size > free:
                raise UserError(
                    f"activations need {size >> 20} MiB, {free >> 20} MiB are free; use keep=False, fewer images or"
                    " activations='float16'"
                )
            choice = budget.Choice(self.entry, "memory", size, 0.0, 0.0, "asked for")
            kept = cache.fill(self._job, [choice], Path(), lambda _: None, on_images)
        return cache.inputs_at(self._job, kept, self.entry)

    def batches(self, inputs: Inputs, start: int = 0) -> Iterator[tuple[Array, Array]]:
        """(x, labels (b,) int32) of every step from number `start` on: each epoch in an order that seed and epoch decide."""
        wanted = TrainingRows.of(self._dataset, self.recipe, seed=self._seed, start=start)
        for index, x in enumerate(inputs.train(wanted, self._seed)):
            yield x, jnp.asarray(self._labels[wanted[index].rows])

    def network(self, state: TrainState) -> tuple[Parameters, tuple[Tree, ...]]:
        """(parameters of stages and head, batch-norm statistics) as they stand, one tree a stage up to the tap; of arrays of
        `state`, so `step` uses them up."""
        return whole(state, self.frozen)

    def scores(self, state: TrainState, inputs: Inputs, split: str) -> dict[str, float | None]:
        """Metric -> value on `train`, `val` or `test`, without augmentation; None where it is undefined."""
        if split not in self._dataset.splits:
            raise UserError(f"split: got {split!r}, allowed: {', '.join(self._dataset.splits)}")
        if split == "train" and self.recipe.augment and inputs.cached:
            raise UserError("split: train images are kept augmented alone; ask inputs(keep=False) for them as they are")
        answer = partial(self._forward, *self.network(state))
        return evaluate(predict([answer], inputs, self._dataset, split, self._batch)[0])


def _jitted(step: Callable[..., TrainState]) -> Callable[..., TrainState]:
    """A new rate is no new program: the whole schedule is an argument."""

    def scheduled(
        state: TrainState, frozen: Frozen, x: jax.Array, labels: jax.Array, rates: Float[Array, "steps parts"], key: jax.Array
    ) -> TrainState:
        return step(state, frozen, x, labels, rates[state.step], key)

    return jax.jit(scheduled, donate_argnums=0)


def _head(head: Mapping[str, Any] | None, channels: int, classes: int) -> dict[str, jax.Array]:
    wanted = {"kernel": (channels, classes), "bias": (classes,)}
    if head is None:
        return {name: jnp.zeros(shape) for name, shape in wanted.items()}
    got = {name: np.shape(values) for name, values in head.items()}
    if got != wanted:
        raise UserError(f"head: got {got}, allowed: {wanted}; take the probe of the plan's last stage, or None")
    return {name: jnp.asarray(values, jnp.float32) for name, values in head.items()}


def _check_images(backbone: Backbone, weights: Weights, dataset: Dataset) -> None:
    """Other sizes than the network was made for may do, if its features are as many."""
    size, wanted = dataset.images.shape[1], backbone.preprocess.image_size
    if size == wanted:
        return

    def features(params: Tree, stats: Tree, images: jax.Array) -> list[jax.Array]:
        return [backbone.pool(y) for y in backbone.outputs(params, stats, backbone.preprocess.apply(images))[0]]

    given = jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8)
    try:
        found = tuple(tap.shape[1] for tap in jax.eval_shape(features, weights.params, weights.stats, given))
    except Exception as error:  # whatever a stage raises
        found, reason = (), f" ({type(error).__name__})"
    else:
        reason = ""
    if found != backbone.channels:
        raise UserError(f"images of {size} pixels do not run through a network made for {wanted}{reason}; resize them to {wanted}")
