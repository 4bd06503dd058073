"""What trials cost, before they run: FLOPs for a bar that tells the time left, seconds from one measured step a shape."""

import time
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from fteng.sweep.track import Track, inputs_of
from fteng.train.start import untrained
from fteng.train.step import initial_state, step_flops
from fteng.train.trial import Expected
from fteng.trials import TrialSpec


def predicted(track: Track, spec: TrialSpec, together: int) -> Expected:
    """Seconds of a trial before it runs: a step measured once a shape, and its share of what of the prefix is recomputed.
    together: how many trials share each batch."""
    shape = track.shape(spec)
    if shape not in track.paces:
        track.paces[shape] = _step_seconds(track, spec)
    inputs, to = inputs_of(track, spec), track.seconds_to
    # From the kept output of an earlier stage, or from the images, at every batch.
    prefix = (to[inputs.entry] - to[inputs.begin]) * track.site.bench.length.batch / together
    steps = track.site.bench.length.steps * (track.paces[shape] + prefix)
    return Expected(steps, inputs.kept_images * to[inputs.begin])


def _step_seconds(track: Track, spec: TrialSpec) -> float:
    """Of a warm step on numbers that mean nothing."""
    start, batch = track.starts[spec.variant.start], track.site.bench.length.batch
    shape, lane = track.shape(spec), track.lane(spec)
    state, frozen = initial_state(untrained(start, shape, lane), track.site.ground.config.train, lane)
    like = track.walk.shapes(start, track.site.ground.dataset.images.shape[1], batch)[shape.entry]
    x, labels = lane.batch(np.zeros(like.shape, np.float32)), lane.batch(np.zeros(batch, np.int32))
    rates, key = lane.whole((jnp.zeros(len(spec.plan.stages) + 1), jax.random.key(0)))
    taken: list[float] = []
    for _ in range(3):
        began = time.perf_counter()
        state = jax.block_until_ready(track.program(spec).run(state, frozen, x, labels, rates, key))
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


def plan_work(track: Track, specs: Iterable[TrialSpec]) -> None:
    """Tell how much there is to do."""
    work = sum(step_work(track, spec) for spec in specs) * track.site.bench.length.steps
    track.site.reporter.phase("trials", work)


def step_work(track: Track, spec: TrialSpec) -> float:
    """FLOPs of a step, with the prefix where it is computed again."""
    entry, classes = track.shape(spec).entry, len(track.site.ground.dataset.classes)
    head = track.site.ground.backbone.channels[len(spec.plan.stages) - 1] * classes
    inputs = inputs_of(track, spec)
    prefix = sum(track.flops.forward[inputs.begin : inputs.entry])
    return track.site.bench.length.batch * (step_flops(spec.plan, entry, track.flops, head) + prefix)
