"""The compiled train step of one freeze plan: forward through the frozen prefix, backward through the trained suffix only.

What makes frozen cheap (and keeps it so) is that gradients are taken with respect to the trainable tree alone and the prefix runs
outside the differentiated function. A norm over all gradients, logged once, would bring the whole backward pass back.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Float32, Int32, Key, UInt8

from fteng.backbones.backbone import Backbone, BatchNormMode, pool
from fteng.backbones.flops import total_flops
from fteng.config import TrainConfig
from fteng.data.augment import augment, mixup
from fteng.freeze import partition
from fteng.freeze.partition import Parameters
from fteng.freeze.plan import FreezePlan

Tree = Any


class TrainState(NamedTuple):
    """All that changes in a trial.

    step: int32 (); trainable: Parameters with holes where frozen; stats: one entry a stage, its batch-norm statistics where they
    follow the batch, else None; optimizer: optax state, of trainable leaves only; loss_sum: float32 (), over this epoch's steps.
    """

    step: jax.Array
    trainable: Parameters
    stats: tuple[Tree, ...]
    optimizer: optax.OptState
    loss_sum: jax.Array


class Frozen(NamedTuple):
    """All that does not change in a trial: the complement of `TrainState.trainable` and `TrainState.stats`."""

    parameters: Parameters
    stats: tuple[Tree, ...]


class Program(NamedTuple):
    """One compiled step, shared by all trials of one plan and shape.

    run(state, frozen, images (b, h, w, 3) uint8, labels (b,) int32, rate (), key) -> state, the state donated.
    flops: of one call as XLA counts the compiled program, optimizer and all; forward_flops, suffix_flops: of one forward pass up to
    the tap with the head, and of the part of it behind the boundary, as XLA counts each stage lowered alone; compile_seconds:
    tracing and compiling `run`.
    """

    run: Callable[..., TrainState]
    flops: float
    forward_flops: float
    suffix_flops: float
    compile_seconds: float


def batch_norm_modes(plan: FreezePlan, recipe: TrainConfig) -> tuple[BatchNormMode, ...]:
    """What batch norm does in each stage while training."""
    return tuple(BatchNormMode(recipe.bn_trained if trains else recipe.bn_frozen) for trains in plan.trains)


def make_optimizer(mask: Parameters, recipe: TrainConfig) -> optax.GradientTransformation:
    """AdamW without its rate (the step multiplies by it, so that a new rate is no new program), masked to what trains.

    Decoupled weight decay: Loshchilov and Hutter 2019. Frozen leaves have no state, are not decayed and not in the clipped norm.
    """
    parts = [
        optax.clip_by_global_norm(recipe.clip_norm) if recipe.clip_norm else optax.identity(),
        optax.scale_by_adam(),
        optax.add_decayed_weights(recipe.weight_decay, mask=partition.decay_mask),
    ]
    return optax.masked(optax.chain(*parts), mask)


def rate_factors(recipe: TrainConfig, total_steps: int) -> Float32[np.ndarray, "steps"]:
    """Factor on the peak rate at each step: linear warm-up, then a half cosine to 0 (Loshchilov and Hutter 2017).

    Reckoned outside the step, so that a study of another length needs no other program.
    """
    warmup = round(recipe.warmup_fraction * total_steps)
    schedule = optax.schedules.warmup_cosine_decay_schedule(1.0 / (warmup + 1), 1.0, warmup, total_steps + 1)
    return np.asarray(schedule(np.arange(total_steps)), np.float32)


def initial_state(
    parameters: Parameters, stats: tuple[Tree, ...], mask: Parameters, plan: FreezePlan, recipe: TrainConfig
) -> tuple[TrainState, Frozen]:
    """(state at step 0, what never changes). The state owns copies, since the step donates its buffers."""
    trainable, frozen = partition.split(parameters, mask)
    follows = [mode is BatchNormMode.BATCH for mode in batch_norm_modes(plan, recipe)]
    moving = tuple(tree if follow else None for tree, follow in zip(stats, follows, strict=True))
    kept = tuple(None if follow else tree for tree, follow in zip(stats, follows, strict=True))
    trainable, moving = jax.tree.map(jnp.copy, (trainable, moving))
    optimizer = make_optimizer(mask, recipe).init(trainable)  # pyright: ignore[reportArgumentType]
    return TrainState(jnp.int32(0), trainable, moving, optimizer, jnp.float32(0.0)), Frozen(frozen, kept)


def whole(state: TrainState, frozen: Frozen) -> tuple[Parameters, tuple[Tree, ...]]:
    """(parameters, statistics) of the network as it stands, without holes."""
    return partition.merge(state.trainable, frozen.parameters), _whole_stats(state.stats, frozen.stats)


def _whole_stats(moving: tuple[Tree, ...], kept: tuple[Tree, ...]) -> tuple[Tree, ...]:
    return tuple(one if other is None else other for one, other in zip(kept, moving, strict=True))


def make_step(
    backbone: Backbone,
    plan: FreezePlan,
    mask: Parameters,
    recipe: TrainConfig,
    shares: Float[np.ndarray, "classes"],
) -> Callable[..., TrainState]:
    """The step of `Program.run`, not yet compiled; shares: of the training images."""
    modes, boundary, end = batch_norm_modes(plan, recipe), plan.boundary, len(plan.stages)
    optimizer = make_optimizer(mask, recipe)

    def step(
        state: TrainState,
        frozen: Frozen,
        images: UInt8[Array, "b h w 3"],
        labels: Int32[Array, "b"],
        rate: Float32[Array, ""],
        key: Key[Array, ""],
    ) -> TrainState:
        augment_key, mixup_key = jax.random.split(jax.random.fold_in(key, state.step))
        x = backbone.preprocess.apply(augment(augment_key, images, recipe.augment))
        targets = optax.smooth_labels(jax.nn.one_hot(labels, len(shares)), recipe.label_smoothing)
        if recipe.mixup:
            x, targets = mixup(mixup_key, x, targets, recipe.mixup)
        x, stats = backbone.apply(
            frozen.parameters.stages,
            _whole_stats(state.stats, frozen.stats),
            x,
            stop=boundary,
            modes=modes,
            momentum=recipe.bn_momentum,
        )

        def loss_of(trainable: Parameters) -> tuple[Float[Array, ""], tuple[Tree, ...]]:
            parameters = partition.merge(trainable, frozen.parameters)
            y, new_stats = backbone.apply(
                parameters.stages, stats, x, start=boundary, stop=end, modes=modes, momentum=recipe.bn_momentum
            )
            return balanced_loss(head_logits(parameters.head, y), targets, shares, recipe.balance), new_stats

        (loss, new_stats), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.trainable)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.trainable)
        trainable = jax.tree.map(lambda leaf, update: leaf - rate * update, state.trainable, updates)
        moving = tuple(None if old is None else new for old, new in zip(state.stats, new_stats, strict=True))
        return TrainState(state.step + 1, trainable, moving, optimizer_state, state.loss_sum + loss)

    return step


def head_logits(head: Tree, features: Float[Array, "n h w channels"]) -> Float[Array, "n classes"]:
    """The head (see `Parameters`) over the pooled activations of the last stage."""
    return pool(features) @ head["kernel"] + head["bias"]


def balanced_loss(
    logits: Float[Array, "n classes"], targets: Float[Array, "n classes"], shares: Float[np.ndarray, "classes"], balance: str
) -> Float[Array, ""]:
    """Cross-entropy in nats over logits and target distributions; shares: of the training images.

    balance: `weights` counts each class as if all were equally frequent; `logits` adds the log shares to the logits, so that what
    the network itself says is balanced (Menon et al. 2021); `none` and `sampling` (done where batches are drawn) do nothing here.
    """
    if balance == "logits":
        logits = logits + jnp.log(jnp.asarray(shares, jnp.float32))
    losses = optax.softmax_cross_entropy(logits, targets)
    if balance == "weights":
        losses = losses * (targets @ jnp.asarray(1 / (len(shares) * shares), jnp.float32))
    return losses.mean()


class Lowered(NamedTuple):
    """A traced step, ready to compile: `compile_step` may run in any thread, tracing may not."""

    program: jax.stages.Lowered
    forward_flops: float
    suffix_flops: float
    trace_seconds: float


def lower_step(
    backbone: Backbone,
    plan: FreezePlan,
    mask: Parameters,
    recipe: TrainConfig,
    shares: Float[np.ndarray, "classes"],
    flops: Sequence[float],
    arguments: Sequence[Any],
) -> Lowered:
    """Trace the step for the shapes of `arguments` (those of `Program.run`); shares: of the training images; flops: of
    each stage for one image."""
    started = time.perf_counter()
    step = make_step(backbone, plan, mask, recipe, shares)
    lowered = jax.jit(step, donate_argnums=0).lower(*arguments)
    state, _, images = arguments[:3]
    head, end = 2.0 * state.trainable.head["kernel"].size, len(plan.stages)
    forward, suffix = (len(images) * (sum(flops[first:end]) + head) for first in (0, plan.boundary))
    return Lowered(lowered, forward, suffix, time.perf_counter() - started)


def compile_step(lowered: Lowered) -> Program:
    """The executable; XLA works outside Python's lock, so several compile side by side."""
    started = time.perf_counter()
    compiled = lowered.program.compile()
    seconds = lowered.trace_seconds + time.perf_counter() - started
    return Program(compiled, total_flops(compiled.cost_analysis()), lowered.forward_flops, lowered.suffix_flops, seconds)
