"""The compiled train step of one freeze plan: from the activations where the trial enters the network to the next state.

What makes frozen cheap (and keeps it so) is that gradients are taken with respect to the trainable tree alone and that frozen
leading stages are not in the step: their outputs are its input. A norm over all gradients, logged once, would bring the whole
backward pass back.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Float32, Int32, Key

from fteng.backbones.backbone import Backbone, BatchNormMode
from fteng.backbones.flops import StageFlops, total_flops
from fteng.config import TrainConfig
from fteng.data.augment import mixup
from fteng.entry import Entry
from fteng.freeze import partition
from fteng.freeze.partition import Parameters
from fteng.freeze.plan import FreezePlan
from fteng.mesh import ALONE, Mesh
from fteng.train.shape import Shape
from fteng.train.start import Untrained

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

    run(state, frozen, x, labels (b,) int32, rates (stages + 1,), key) -> state, the state donated; x: activations at the entry.
    flops: of one call, on all devices together, as XLA counts the compiled program; expected_flops: of the forward pass from the
    entry to the tap, the backward pass of what lies behind the boundary, head and optimizer, as XLA counts each part lowered alone;
    prefix_flops: of the stages before the entry, for as many images, whoever ran them; state_bytes: of a trial's own state;
    temporary_bytes: what a call needs beside its arguments on a device; compile_seconds: tracing and compiling `run`.
    """

    run: Callable[..., TrainState]
    flops: float
    expected_flops: float
    prefix_flops: float
    state_bytes: int
    temporary_bytes: int
    compile_seconds: float


def make_optimizer(mask: Parameters, recipe: TrainConfig) -> optax.GradientTransformation:
    """AdamW, or SGD with momentum, without its rate (the step multiplies by it, so that a new rate is no new program), masked to
    what trains.

    Weight decay is decoupled with AdamW (Loshchilov and Hutter 2019) and a part of the gradient with SGD, as the papers that train
    by SGD have it. Frozen leaves have no state, are not decayed and not in the clipped norm.
    """
    clip = optax.clip_by_global_norm(recipe.clip_norm) if recipe.clip_norm else optax.identity()
    decay = optax.add_decayed_weights(recipe.weight_decay, mask=partition.decay_mask)
    parts = (clip, optax.scale_by_adam(), decay) if recipe.optimizer == "adamw" else (clip, decay, optax.trace(recipe.momentum))
    return optax.masked(optax.chain(*parts), mask)


def initial_state(network: Untrained, recipe: TrainConfig, mesh: Mesh = ALONE) -> tuple[TrainState, Frozen]:
    """(state at step 0, what never changes). The state owns copies, since the step donates its buffers, on every device of the
    mesh; what never changes stays where it is."""
    trainable, frozen = partition.split(network.parameters, trains=network.mask)
    follows = [mode is BatchNormMode.BATCH for mode in network.modes]
    moving = tuple(tree if follow else None for tree, follow in zip(network.stats, follows, strict=True))
    kept = tuple(None if follow else tree for tree, follow in zip(network.stats, follows, strict=True))
    trainable, moving = mesh.whole(jax.tree.map(jnp.copy, (trainable, moving)))
    optimizer = make_optimizer(network.mask, recipe).init(trainable)  # pyright: ignore[reportArgumentType]
    return mesh.whole(TrainState(jnp.int32(0), trainable, moving, optimizer, jnp.float32(0.0))), Frozen(frozen, kept)


def whole(state: TrainState, frozen: Frozen) -> tuple[Parameters, tuple[Tree, ...]]:
    """(parameters, statistics) of the network as it stands, without holes."""
    return partition.merge(state.trainable, frozen.parameters), _whole_stats(state.stats, frozen.stats)


def _whole_stats(moving: tuple[Tree, ...], kept: tuple[Tree, ...]) -> tuple[Tree, ...]:
    return tuple(one if other is None else other for one, other in zip(kept, moving, strict=True))


def make_step(
    backbone: Backbone, shape: Shape, mask: Parameters, recipe: TrainConfig, shares: Float[np.ndarray, "classes"]
) -> Callable[..., TrainState]:
    """The step of `Program.run`, not yet compiled; mask: what trains; shares: of the training images."""
    boundary, end = shape.plan.boundary, len(shape.plan.stages)
    optimizer = make_optimizer(mask, recipe)

    def step(
        state: TrainState,
        frozen: Frozen,
        x: Float[Array, "b *place c"],
        labels: Int32[Array, "b"],
        rates: Float32[Array, "parts"],
        key: Key[Array, ""],
    ) -> TrainState:
        mixup_key, dropout_key = jax.random.split(jax.random.fold_in(key, state.step))
        targets = optax.smooth_labels(jax.nn.one_hot(labels, len(shares)), recipe.label_smoothing)
        if recipe.mixup:
            x, targets = mixup(mixup_key, x, targets, recipe.mixup)
        x, stats = backbone.apply(
            frozen.parameters.stages,
            _whole_stats(state.stats, frozen.stats),
            x,
            start=shape.entry.stage,
            stop=boundary,
            modes=shape.modes,
            momentum=recipe.bn_momentum,
        )

        def loss_of(trainable: Parameters) -> tuple[Float[Array, ""], tuple[Tree, ...]]:
            parameters = partition.merge(trainable, frozen.parameters)
            y, new_stats = backbone.apply(
                parameters.stages,
                stats,
                x,
                start=boundary,
                stop=end,
                modes=shape.modes,
                momentum=recipe.bn_momentum,
                key=dropout_key,
            )
            logits = head_logits(parameters.head, y if shape.entry.pooled else backbone.pool(y))
            return balanced_loss(logits, targets, shares, recipe.balance), new_stats

        (loss, new_stats), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.trainable)
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.trainable)
        trainable = _moved(state.trainable, updates, rates)  # pyright: ignore[reportArgumentType]
        moving = tuple(None if old is None else new for old, new in zip(state.stats, new_stats, strict=True))
        return TrainState(state.step + 1, trainable, moving, optimizer_state, state.loss_sum + loss)

    return step


def _moved(trainable: Parameters, updates: Parameters, rates: Float32[Array, "parts"]) -> Parameters:
    """One step down: each stage, and last the head, at a rate of its own."""

    def down(tree: Tree, update: Tree, rate: Float32[Array, ""]) -> Tree:
        return jax.tree.map(lambda leaf, slope: leaf - rate * slope, tree, update)

    stages = tuple(map(down, trainable.stages, updates.stages, rates[:-1]))
    return Parameters(stages, down(trainable.head, updates.head, rates[-1]))


def head_logits(head: Tree, features: Float[Array, "n channels"]) -> Float[Array, "n classes"]:
    """The head (see `Parameters`) over the pooled output of the tap."""
    return features @ head["kernel"] + head["bias"]


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
    devices: int
    repeated_flops: float
    expected_flops: float
    prefix_flops: float
    state_bytes: int
    trace_seconds: float


def lower_step(
    backbone: Backbone,
    shape: Shape,
    mask: Parameters,
    recipe: TrainConfig,
    shares: Float[np.ndarray, "classes"],
    flops: StageFlops,
    arguments: Sequence[Any],
    mesh: Mesh = ALONE,
) -> Lowered:
    """Trace the step for the shapes of `arguments` (those of `Program.run`), which say where they lie on a mesh of several devices;
    shares: of the training images."""
    started = time.perf_counter()
    step = make_step(backbone, shape, mask, recipe, shares)
    with mesh.tracing():
        lowered = mesh.compile(step, donate_argnums=0).lower(*arguments)
    state, _, x = arguments[:3]
    images, head = x.shape[0], state.trainable.head["kernel"].size
    update = _update_flops(mask, recipe, state)
    expected = images * step_flops(shape.plan, shape.entry, flops, head) + update
    before = images * sum(flops.forward[: shape.entry.stage])
    seconds = time.perf_counter() - started
    return Lowered(
        program=lowered,
        devices=mesh.devices,
        repeated_flops=_repeated_flops(mask, recipe, state, mesh.devices),
        expected_flops=expected,
        prefix_flops=before,
        state_bytes=partition.size_bytes(state),
        trace_seconds=seconds,
    )


def step_flops(plan: FreezePlan, entry: Entry, flops: StageFlops, head: int) -> float:
    """Of one image, optimizer left out. head: scalars in its kernel; it is used twice, for logits and its gradient, and thrice
    where stages train."""
    end, boundary = len(plan.stages), plan.boundary
    frozen = sum(flops.forward[entry.stage : boundary])
    if boundary == end:
        return frozen + 4.0 * head
    return frozen + flops.first[boundary] + sum(flops.trained[boundary + 1 : end]) + 6.0 * head


def _update_flops(mask: Parameters, recipe: TrainConfig, state: TrainState) -> float:
    """Of the optimizer alone, which on small images is no trifle."""
    optimizer = make_optimizer(mask, recipe)
    lowered = jax.jit(optimizer.update).lower(state.trainable, state.optimizer, state.trainable)
    return total_flops(lowered.cost_analysis())


def _repeated_flops(mask: Parameters, recipe: TrainConfig, state: TrainState, devices: int) -> float:
    """Of a step on several devices, what is counted beyond that on one: each updates all that trains, and sums its gradients with
    those of the others, an addition each."""
    if devices == 1:
        return 0.0
    optimizer = make_optimizer(mask, recipe)

    def update(trainable: Parameters, inner: optax.OptState, rates: Float32[Array, "parts"]) -> Parameters:
        updates, _ = optimizer.update(trainable, inner, trainable)  # pyright: ignore[reportArgumentType]
        return _moved(trainable, updates, rates)  # pyright: ignore[reportArgumentType]

    rates = jax.ShapeDtypeStruct((len(state.trainable.stages) + 1,), jnp.float32)
    once = total_flops(jax.jit(update).lower(state.trainable, state.optimizer, rates).cost_analysis())
    return (devices - 1) * once + devices * partition.count(state.trainable)


def compile_step(lowered: Lowered) -> Program:
    """The executable; XLA works outside Python's lock, so several compile side by side."""
    started = time.perf_counter()
    compiled = lowered.program.compile()
    seconds = lowered.trace_seconds + time.perf_counter() - started
    # What is compiled is a device's part of the step.
    counted = lowered.devices * total_flops(compiled.cost_analysis()) - lowered.repeated_flops
    memory = compiled.memory_analysis()
    return Program(
        compiled,
        counted,
        lowered.expected_flops,
        lowered.prefix_flops,
        lowered.state_bytes,
        0 if memory is None else memory.temp_size_in_bytes,
        seconds,
    )
