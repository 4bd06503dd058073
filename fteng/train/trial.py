"""One trial: begun at its start, or at its last checkpoint, and ended with its result on disk. What is between is `population`."""

import json
import math
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float32

from fteng import paths
from fteng.analysis.metrics import evaluate
from fteng.config import TrainConfig
from fteng.data.prepare import Dataset
from fteng.distributed import agree, is_main, wait
from fteng.errors import UserError
from fteng.freeze import partition
from fteng.freeze.partition import Parameters
from fteng.mesh import ALONE, Mesh
from fteng.paths import TrialPaths
from fteng.results import Predictions, write_predictions
from fteng.train.audit import audit_trial, check_compilations
from fteng.train.batches import Length, length_of
from fteng.train.checkpoint import Checkpoints, read_final, save_final
from fteng.train.evaluate import Forward
from fteng.train.rates import rates_of
from fteng.train.shape import shape_of
from fteng.train.start import Start, untrained
from fteng.train.step import Frozen, Program, TrainState, initial_state, whole
from fteng.trials import TrialSpec


class Bench(NamedTuple):
    """What the trials of a study share: data, recipe and how to stop.

    should_stop: asked after every step; compilations: programs compiled so far in this process; provenance: versions and revision,
    kept with each result; say: a line for the user; mesh: the devices that each trial is on; halted: asked at the end of an epoch,
    the ids of trials that the user wants to end there; beat: a sign of life where no step is made.
    """

    dataset: Dataset
    recipe: TrainConfig
    should_stop: Callable[[], bool]
    compilations: Callable[[], int]
    provenance: dict[str, str]
    say: Callable[[str], None]
    mesh: Mesh = ALONE
    halted: Callable[[], Collection[str]] = tuple
    beat: Callable[[], None] = lambda: None

    @property
    def length(self) -> Length:
        """Of each trial."""
        return length_of(self.recipe, len(self.dataset.splits["train"]))


class Expected(NamedTuple):
    """Seconds of a trial before it runs. steps: of its steps to the end; walk: from the images to its entry, once for every image
    that a cache keeps for it, whoever shares it; 0 where steps bring their images there themselves."""

    steps: float
    walk: float


@dataclass(slots=True)
class Running:
    """A trial between two steps.

    lane: where it is; rates: (steps, stages + 1); seconds: of its steps over all its lives, evaluation and compilation left out,
    with its share of what it did together with others; waited: how many of them it waited for its input; expected: before it ran;
    lost_at: the step at which its loss was found to be lost; halted: its user wants it to end here; answered: to val, at the step
    of the last epoch's end.
    """

    spec: TrialSpec
    start: Start
    program: Program
    forward: Forward
    lane: Mesh
    where: TrialPaths
    checkpoints: Checkpoints
    state: TrainState
    frozen: Frozen
    rates: Float32[np.ndarray, "steps parts"]
    step: int
    seconds: float
    waited: float
    compiled_before: int
    expected: Expected
    lost_at: int | None = None
    halted: bool = False
    answered: dict[int, Predictions] = field(default_factory=dict)

    @property
    def goes_on(self) -> bool:
        """Whether there is another step for it to make, but for its end."""
        return self.lost_at is None and not self.halted

    @property
    def network(self) -> tuple[Parameters, tuple[Any, ...]]:
        """(parameters, statistics) as they stand."""
        return whole(self.state, self.frozen)

    def save(self, per_epoch: int) -> None:
        """A checkpoint, written in the background."""
        position = {"seed": self.spec.seed, "epoch": self.step // per_epoch, "seconds": self.seconds, "waited": self.waited}
        self.checkpoints.save(self.step, self.state, position)


def begin(
    bench: Bench,
    start: Start,
    spec: TrialSpec,
    *,
    program: Program,
    forward: Forward,
    where: TrialPaths,
    expected: Expected,
    lane: Mesh = ALONE,
) -> Running:
    """The trial at its start, or where its last whole checkpoint left it; program: for the lane. Raises UserError if that continues
    something else."""
    compiled_before, total = bench.compilations(), bench.length.steps
    shape = shape_of(spec.plan, spec.variant, bench.recipe)
    state, frozen = initial_state(untrained(start, shape, lane), bench.recipe, lane)
    if spec.variant.parent:
        state = _from_parent(state, where.parent)
    where.root.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(where.running, start.identity)
    running = Running(
        spec=spec,
        start=start,
        program=program,
        forward=forward,
        lane=lane,
        where=where,
        checkpoints=checkpoints,
        state=state,
        frozen=frozen,
        rates=rates_of(spec.learning_rate, bench.recipe, spec.plan, spec.variant, total),
        step=0,
        seconds=0.0,
        waited=0.0,
        compiled_before=compiled_before,
        expected=expected,
    )
    if (restored := checkpoints.restore(state, bench.say)) is not None:
        running.state, running.step = restored.state, int(restored.state.step)
        running.seconds, running.waited = restored.position["seconds"], restored.position["waited"]
        bench.say(f"trial {spec.id} goes on from step {running.step} of {total}")
    if is_main():
        _cut_metrics(where.metrics, running.step)
    return running


def _from_parent(state: TrainState, folder: Path) -> TrainState:
    """A clone's first state: its parent's numbers, and an optimizer that knows nothing. Raises UserError where they are gone."""
    try:
        found = read_final(folder, {"trainable": state.trainable, "stats": state.stats})
    except UserError as error:
        raise UserError(f"the weights of the clone's parent: {error}; where they are gone, clone again") from None
    return state._replace(**found)


def end(
    bench: Bench, running: Running, predictions: Mapping[str, Predictions], *, first_of_shape: bool, stopped: str = ""
) -> dict[str, Any]:
    """Audit, and write the trial's files, result.json last. Returns the result.

    predictions: of val and test, not looked at where the loss was lost; of a trial that was stopped, of val alone. stopped: why,
    empty for one that went to its end; its checkpoint stays. first_of_shape: no trial of this plan ran in this process yet, so
    small programs around the step may still be compiled. Raises UserError when the disk is full.
    """
    spec, where, state = running.spec, running.where, running.state
    if stopped:
        # Who changes their mind goes on from here.
        running.save(bench.length.per_epoch)
    running.checkpoints.close()
    result = spec.record() | {"steps": running.step, "cost": _cost(bench, running), "provenance": bench.provenance}
    if running.lost_at is None:
        stages = len(spec.plan.stages)
        source = (
            Parameters(running.start.source[0][:stages], running.start.heads[spec.plan.tap]),
            running.start.source[1][:stages],
        )
        after = jax.tree.map(bench.mesh.fetch, running.network)
        checks = audit_trial(spec, bench.recipe, running.program, source, after, state.optimizer)
        checks.append(check_compilations(bench.compilations() - running.compiled_before, first_of_shape))
        broken = [f"{check.check}: {check.detail}" for check in checks if check.passed is False and check.fatal]
        if is_main():
            paths.write_by(where.predictions, lambda path: write_predictions(path, predictions))
        if not stopped:
            save_final(where.final, {"trainable": state.trainable, "stats": state.stats})
        result |= {"val": {}, "test": {}} | {split: evaluate(answers) for split, answers in predictions.items()}
        result |= {"audit": [check.record() for check in checks]}
        status = "failed" if broken else "stopped" if stopped else "done"
        result |= {"status": status, "note": "; ".join(broken) or stopped}
    else:
        result |= {"val": {}, "test": {}, "audit": []}
        result |= {"status": "diverged", "note": f"the loss was not finite in the epoch that ended at step {running.lost_at}"}
    # What a clock or a count of compilations says is a process's own.
    result = agree(result)
    if is_main():
        paths.write_json(where.result, result)
        if not stopped:
            # Only now: until the result stood, a killed run would have needed them.
            shutil.rmtree(where.running)
    # Whoever looks for it finds it.
    wait()
    return result


def _cost(bench: Bench, running: Running) -> dict[str, float]:
    program, batch = running.program, bench.length.batch
    return {
        # Of the depth by itself: others may have shared the walk.
        "seconds": running.seconds + running.expected.walk,
        "prefix_seconds": running.expected.walk,
        "predicted_seconds": running.expected.steps * running.step / bench.length.steps + running.expected.walk,
        "data_wait_seconds": running.waited,
        "examples_per_second": running.step * batch / running.seconds if running.seconds else 0.0,
        # Of the depth by itself: the frozen prefix counts, though others may have shared it.
        "flops_per_example": (program.prefix_flops + program.flops) / batch,
        "optimizer_bytes": partition.size_bytes(running.state.optimizer),
        "trainable_parameters": partition.count(running.state.trainable),
        "compile_seconds": program.compile_seconds,
    }


def _cut_metrics(path: Path, step: int) -> None:
    """Drop the lines that a killed run wrote after the checkpoint we go on from; they will be written again."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if _step_of(line) <= step]
        paths.write_text(path, "".join(f"{line}\n" for line in kept))


def _step_of(line: str) -> float:
    """Of a line of metrics; one that a kill cut short is later than any checkpoint."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
