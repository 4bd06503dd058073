"""One trial from start, or from its last checkpoint, to its result on disk."""

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fteng import paths
from fteng.analysis.metrics import evaluate
from fteng.config import TrainConfig
from fteng.data.prepare import Dataset
from fteng.freeze import partition
from fteng.freeze.partition import Parameters
from fteng.paths import TrialPaths
from fteng.results import Predictions, write_predictions
from fteng.train.audit import audit_trial, check_compilations
from fteng.train.checkpoint import Checkpoints, save_final
from fteng.train.evaluate import Forward, predict
from fteng.train.feed import Feed, TrainingRows
from fteng.train.rates import rate_factors, stage_factors
from fteng.train.step import Frozen, Program, TrainState, batch_norm_modes, initial_state, whole
from fteng.trials import TrialSpec


class Interrupted(Exception):  # noqa: N818 - not an error: the study was asked to stop
    """The study was asked to stop; the trial's state is on disk."""


class Bench(NamedTuple):
    """What the trials of a study share: data, recipe and how to stop.

    should_stop: asked after every step; compilations: programs compiled so far in this process; provenance: versions and revision,
    kept with each result; say: a line for the user.
    """

    dataset: Dataset
    feed: Feed
    recipe: TrainConfig
    should_stop: Callable[[], bool]
    compilations: Callable[[], int]
    provenance: dict[str, str]
    say: Callable[[str], None]


class Start(NamedTuple):
    """What trials start from, never changed.

    stages, stats: of the whole backbone; heads: tap -> `kernel` and `bias`; name: backbone and digest of the numbers, for
    checkpoints; source: host copies of stages and stats, made before any training, for the audit.
    """

    stages: tuple[Any, ...]
    stats: tuple[Any, ...]
    heads: Mapping[str, Any]
    name: dict[str, str]
    source: tuple[tuple[Any, ...], tuple[Any, ...]]


class Ending(NamedTuple):
    """How training ended: the state, seconds of its steps over all its lives (evaluation and compilation left out), how many of
    them it waited for images, and the step at which the loss was lost, if it was."""

    state: TrainState
    seconds: float
    waited: float
    diverged_at: int | None


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Whole batches; a set smaller than a batch is one batch."""
    return max(1, images // batch_size)


def class_shares(dataset: Dataset) -> np.ndarray:
    """(classes,) share of each class among the training images; every class has at least one."""
    counts = np.bincount(dataset.labels[dataset.splits["train"]], minlength=len(dataset.classes))
    return counts / counts.sum()


def run_trial(
    bench: Bench,
    start: Start,
    spec: TrialSpec,
    program: Program,
    forward: Forward,
    where: TrialPaths,
    on_step: Callable[[int], None],
    *,
    first_of_shape: bool,
) -> dict[str, Any]:
    """Train, judge, audit, and write the trial's files, result.json last. Returns the result.

    first_of_shape: no trial of this plan ran in this process yet, so small programs around the step may still be compiled.
    Raises Interrupted after the state was saved, UserError when the disk is full.
    """
    end, compiled_before = len(spec.plan.stages), bench.compilations()
    head, modes = start.heads[spec.plan.tap], batch_norm_modes(spec.plan, spec.variant)
    before = (Parameters(start.stages[:end], head), start.stats[:end])
    mask = partition.trainable_mask(spec.plan, before[0])
    state, frozen = initial_state(*before, mask, modes, bench.recipe)
    where.root.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(where.running, start.name)

    def judge(state: TrainState, split: str) -> Predictions:
        return predict(forward, *whole(state, frozen), bench.feed, bench.dataset, split, bench.recipe.batch_size)

    try:
        ending = _train(bench, spec, program, state, frozen, checkpoints, where, judge, on_step)
    finally:
        checkpoints.close()
    result = spec.record() | {"steps": int(ending.state.step), "cost": _cost(bench, program, ending)}
    result |= {"provenance": bench.provenance}
    if ending.diverged_at is None:
        predictions = {split: judge(ending.state, split) for split in ("val", "test")}
        source = (Parameters(start.source[0][:end], head), start.source[1][:end])
        checks = audit_trial(spec, bench.recipe, program, source, whole(ending.state, frozen), ending.state.optimizer)
        checks.append(check_compilations(bench.compilations() - compiled_before, first_of_shape))
        broken = [f"{check.check}: {check.detail}" for check in checks if check.passed is False and check.fatal]
        paths.write_by(where.predictions, lambda path: write_predictions(path, predictions))
        save_final(where.final, {"trainable": ending.state.trainable, "stats": ending.state.stats})
        result |= {split: evaluate(answers) for split, answers in predictions.items()}
        result |= {"audit": [check.record() for check in checks]}
        result |= {"status": "failed" if broken else "done", "note": "; ".join(broken)}
    else:
        result |= {"val": {}, "test": {}, "audit": []}
        result |= {
            "status": "diverged",
            "note": f"the loss was not finite in the epoch that ended at step {ending.diverged_at}",
        }
    paths.write_json(where.result, result)
    # Only now: until the result stood, a killed run would have needed them.
    shutil.rmtree(where.running)
    return result


def _cost(bench: Bench, program: Program, ending: Ending) -> dict[str, float]:
    return {
        "seconds": ending.seconds,
        "data_wait_seconds": ending.waited,
        "examples_per_second": int(ending.state.step) * _batch(bench) / ending.seconds,
        "flops_per_example": program.flops / _batch(bench),
        "optimizer_bytes": partition.size_bytes(ending.state.optimizer),
        "trainable_parameters": partition.count(ending.state.trainable),
        "compile_seconds": program.compile_seconds,
    }


def _train(
    bench: Bench,
    spec: TrialSpec,
    program: Program,
    state: TrainState,
    frozen: Frozen,
    checkpoints: Checkpoints,
    where: TrialPaths,
    judge: Callable[[TrainState, str], Predictions],
    on_step: Callable[[int], None],
) -> Ending:
    """The loop: batches by (seed, epoch), an evaluation on val at the end of each epoch, a checkpoint every so many steps."""
    recipe, rows = bench.recipe, bench.dataset.splits["train"]
    batch, per_epoch = _batch(bench), steps_per_epoch(len(rows), recipe.batch_size)
    total = per_epoch * recipe.epochs
    earlier, waited, step = 0.0, 0.0, 0
    if (restored := checkpoints.restore(state, bench.say)) is not None:
        state, earlier, step = restored.state, restored.position["seconds"], int(restored.state.step)
        waited = restored.position["waited"]
    _cut_metrics(where.metrics, step)
    rates = np.float32(spec.learning_rate) * rate_factors(recipe, total)[:, None]
    rates, key = rates * stage_factors(spec.plan, spec.variant, total), jax.random.key(spec.seed)
    labels = bench.dataset.labels.astype(np.int32)
    balanced = recipe.balance == "sampling"
    plan = TrainingRows(rows, labels[rows], batch=batch, epochs=recipe.epochs, seed=spec.seed, balanced=balanced, start=step)
    coming = bench.feed.batches(plan)
    started, judging = time.perf_counter(), 0.0

    def seconds() -> float:
        return earlier + time.perf_counter() - started - judging

    for chosen in (plan[index] for index in range(len(plan))):
        before_waiting = time.perf_counter()
        images = next(coming)
        waited += time.perf_counter() - before_waiting
        state = program.run(state, frozen, images, jnp.asarray(labels[chosen]), jnp.asarray(rates[step]), key)
        step += 1
        on_step(step)
        if step % per_epoch == 0:
            loss = float(state.loss_sum) / per_epoch
            if not math.isfinite(loss):
                return Ending(state, seconds(), waited, step)
            before_judging = time.perf_counter()
            line = {"step": step, "epoch": step // per_epoch, "loss": loss, "val": evaluate(judge(state, "val"))}
            judging += time.perf_counter() - before_judging
            with where.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
            state = state._replace(loss_sum=jnp.float32(0.0))
        stop = bench.should_stop()
        if step < total and (stop or step % recipe.checkpoint_every == 0):
            checkpoints.save(step, state, {"seed": spec.seed, "epoch": step // per_epoch, "seconds": seconds(), "waited": waited})
        if step < total and stop:
            checkpoints.wait()
            raise Interrupted(f"{spec.id} at step {step} of {total}")
    jax.block_until_ready(state)
    return Ending(state, seconds(), waited, None)


def _batch(bench: Bench) -> int:
    return min(bench.recipe.batch_size, len(bench.dataset.splits["train"]))


def _cut_metrics(path: Path, step: int) -> None:
    """Drop the lines that a killed run wrote after the checkpoint we go on from; they will be written again."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if _step_of(line) <= step]
        paths.write_text(path, "".join(f"{line}\n" for line in kept))


def _step_of(line: str) -> float:
    """Of a line of metrics; one that a kill cut short is later than any checkpoint."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
