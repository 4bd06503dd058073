"""Every trial to its end, those of one start, entry and seed together."""

import time
from collections.abc import Callable, Mapping, Sequence

from fteng import steer
from fteng.distributed import is_main
from fteng.results import Predictions
from fteng.sweep.cost import predicted, step_work
from fteng.sweep.together import populations
from fteng.sweep.track import Track, inputs_of
from fteng.train.evaluate import make_forward
from fteng.train.population import advance, answers_of
from fteng.train.shape import Shape
from fteng.train.trial import Running, begin, end
from fteng.trials import TrialSpec


def run_exhaustive(track: Track, pending: Sequence[TrialSpec]) -> None:
    """Every trial to its end, those of one start, entry and seed together."""
    for together in populations(track, pending):
        _run_together(track, together)


def _run_together(track: Track, specs: Sequence[TrialSpec]) -> None:
    """From start to result."""
    site, fresh = track.site, fresh_shapes(track, specs)
    members = [open_trial(track, spec, len(specs)) for spec in specs]
    inputs = inputs_of(track, specs[0])
    advance(site.bench, members, inputs, site.bench.length.steps, meter(track, members))
    # What has not come to its end has no business with test.
    asked = {"val": [one for one in members if one.lost_at is None], "test": [one for one in members if one.goes_on]}
    answers = {split: answers_of(site.bench, those, inputs, split) for split, those in asked.items()}
    for member in members:
        mine = {split: answers[split][those.index(member)] for split, those in asked.items() if member in those}
        stopped = f"{steer.BY_USER} at step {member.step} of {site.bench.length.steps}" if member.halted else ""
        close_trial(track, member, mine, fresh, stopped)


def open_trial(track: Track, spec: TrialSpec, together: int) -> Running:
    """A trial at its start or its last checkpoint; what a race had stopped goes on. together: how many trials share each batch."""
    shape, where = track.shape(spec), track.site.study.trial(spec.id)
    key = (shape.entry, len(shape.plan.stages))
    if key not in track.forwards:
        track.forwards[key] = make_forward(track.site.ground.backbone, *key)
    if is_main() and where.status() == "stopped":
        where.result.unlink()
    start, expected = track.starts[spec.variant.start], predicted(track, spec, together)
    program, forward = track.program(spec), track.forwards[key]
    running = begin(
        track.site.bench,
        start,
        spec,
        program=program,
        forward=forward,
        where=where,
        expected=expected,
        lane=track.lane(spec),
    )
    track.site.reporter.advance(step_work(track, spec) * running.step)
    return running


def fresh_shapes(track: Track, specs: Sequence[TrialSpec]) -> set[Shape]:
    """Shapes whose small programs around the step may still be compiled."""
    keys = {(track.shape(spec), spec.variant.start, track.lanes[spec.id]) for spec in specs}
    fresh = {shape for shape, *_ in keys - track.met}
    track.met.update(keys)
    return fresh


def close_trial(
    track: Track, member: Running, predictions: Mapping[str, Predictions], fresh: set[Shape], stopped: str = ""
) -> None:
    """A trial's result; `predictions`, `stopped`: see `train.trial.end`."""
    first = track.shape(member.spec) in fresh
    result = end(track.site.bench, member, predictions, first_of_shape=first, stopped=stopped)
    if result["status"] in ("failed", "diverged"):
        track.site.reporter.say(f"{member.spec.id}: {result['status']}, {result['note']}")


def meter(track: Track, members: Sequence[Running]) -> Callable[[Sequence[Running]], None]:
    """Counts each step, with the rate of these trials together."""
    reporter, batch = track.site.reporter, track.site.bench.length.batch
    work = {member.spec.id: step_work(track, member.spec) for member in members}
    started, steps = time.perf_counter(), 0
    heads = list(dict.fromkeys(member.spec.id.partition("-rate")[0] for member in members))
    title = f"{', '.join(heads[:2])}{', ...' * (len(heads) > 2)}: {len(members)} trials"

    def on_step(live: Sequence[Running]) -> None:
        nonlocal steps
        steps += len(live)
        rate = steps * batch / max(time.perf_counter() - started, 1e-9)
        reporter.advance(sum(work[member.spec.id] for member in live), f"{title}, {rate:,.0f} images/s")

    return on_step
