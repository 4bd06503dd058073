"""Trials that enter the network at one place and see the same batches, step by step together: each batch is read, augmented and
taken through the frozen prefix once for all of them."""

import json
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from fteng.analysis.metrics import evaluate
from fteng.distributed import is_main
from fteng.errors import Interrupted
from fteng.freeze.partition import Parameters
from fteng.mesh import Mesh
from fteng.results import Predictions
from fteng.train.batches import Inputs, TrainingRows
from fteng.train.evaluate import Forward, predict
from fteng.train.trial import Bench, Running


def advance(
    bench: Bench, members: Sequence[Running], inputs: Inputs, upto: int, on_step: Callable[[Sequence[Running]], None]
) -> None:
    """Train every member up to step `upto`; an evaluation on val at the end of each epoch, a checkpoint every so many steps.

    members: of one seed, entry and length; they may stand at different steps, where a killed run left them: those behind catch up
    first. What a member becomes does not depend on the others; one whose loss is lost, or that its user ends, drops out.
    on_step(live): these made a step. Raises Interrupted after every member was saved.
    """
    recipe, per_epoch = bench.recipe, bench.length.per_epoch
    labels = bench.dataset.labels.astype(np.int32)
    first = min((member.step for member in members if member.goes_on), default=upto)
    if first >= upto:
        return
    batches = TrainingRows.of(bench.dataset, recipe, seed=members[0].spec.seed, start=first, stop=upto)
    key, total = bench.mesh.whole(jax.random.key(members[0].spec.seed)), bench.length.steps
    keys = {member.spec.id: member.lane.seen(key) for member in members}
    coming = inputs.train(batches, members[0].spec.seed)
    for step in range(first, upto):
        live = [member for member in members if member.goes_on and member.step == step]
        began = time.perf_counter()
        x = next(coming)
        if not live:
            continue
        waited = time.perf_counter() - began
        targets = bench.mesh.batch(labels[batches[step - first].rows])
        for member in live:
            rates = member.lane.whole(jax.device_put(member.rates[step]))
            shared = member.lane.seen((x, targets))
            # What a step reads is on the devices already.
            with jax.transfer_guard("disallow"):
                member.state = member.program.run(member.state, member.frozen, *shared, rates, keys[member.spec.id])
            member.step += 1
        at_end = (step + 1) % per_epoch == 0
        if at_end:
            jax.block_until_ready([member.state.loss_sum for member in live])
        seconds = (time.perf_counter() - began) / len(live)
        for member in live:
            member.seconds += seconds
            member.waited += waited / len(live)
        on_step(live)
        if at_end:
            _end_epoch(bench, live, inputs, per_epoch)
            wanted = bench.halted()
            for member in live:
                member.halted = member.spec.id in wanted and member.step < total
            if not any(member.goes_on for member in members):
                return
        stop = bench.should_stop()
        if step + 1 < total and (stop or (step + 1) % recipe.checkpoint_every == 0):
            for member in live:
                if member.goes_on:
                    member.save(per_epoch)
        if step + 1 < total and stop:
            for member in members:
                member.checkpoints.wait()
            shown = ", ".join(member.spec.id for member in live)
            raise Interrupted(f"saved {shown} at step {step + 1} of {total}")


def answers_of(bench: Bench, members: Sequence[Running], inputs: Inputs, split: str) -> list[Predictions]:
    """What each member answers to `split`, from one pass over its images; answers of an epoch's end are not asked again."""
    if not members:
        return []
    known = [member.answered.get(member.step) for member in members] if split == "val" else []
    if known and all(answers is not None for answers in known):
        return [answers for answers in known if answers is not None]
    networks = [partial(_answer, member.forward, member.network, member.lane) for member in members]
    return predict(networks, inputs, bench.dataset, split, bench.length.batch, bench.mesh, bench.beat)


def _answer(
    forward: Forward, network: tuple[Parameters, tuple[Any, ...]], lane: Mesh, x: Float[Array, "b *place c"]
) -> Float[Array, "b classes"]:
    with lane.tracing():
        return forward(*network, lane.seen(x))


def _end_epoch(bench: Bench, live: Sequence[Running], inputs: Inputs, per_epoch: int) -> None:
    """Loss and score of each; a line of metrics each."""
    losses = [float(member.state.loss_sum) / per_epoch for member in live]
    for member, loss in zip(live, losses, strict=True):
        if not math.isfinite(loss):
            member.lost_at = member.step
    sound = [(member, loss) for member, loss in zip(live, losses, strict=True) if member.lost_at is None]
    answered = answers_of(bench, [member for member, _ in sound], inputs, "val")
    for (member, loss), answers in zip(sound, answered, strict=True):
        member.answered = {member.step: answers}
        member.state = member.state._replace(loss_sum=member.lane.whole(jax.device_put(np.float32(0.0))))
        if not is_main():
            continue
        line = {"step": member.step, "epoch": member.step // per_epoch, "loss": loss, "val": evaluate(answers)}
        with member.where.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
