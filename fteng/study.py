"""A whole study, in the order of its life: weights, data, probes, trials, report. What is finished on disk is not done again."""

import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import jax
import numpy as np

from fteng import paths, record
from fteng.backbones.backbone import Backbone
from fteng.backbones.catalogue import load
from fteng.backbones.flops import stage_flops
from fteng.backbones.weights import Weights
from fteng.config import Config
from fteng.data.prepare import Dataset, prepare
from fteng.errors import UserError
from fteng.freeze import partition
from fteng.freeze.partition import Parameters
from fteng.freeze.plan import FreezePlan
from fteng.paths import StudyPaths
from fteng.probe import probe
from fteng.probe.features import extract
from fteng.probe.profile import profile
from fteng.progress import Reporter
from fteng.results import write_images, write_predictions
from fteng.train.compilations import count_compilations
from fteng.train.evaluate import Forward, make_forward
from fteng.train.feed import Feed, make_feed
from fteng.train.step import Lowered, Program, compile_step, initial_state, lower_step
from fteng.train.trial import Bench, Interrupted, class_shares, run_trial, steps_per_epoch
from fteng.trials import TrialSpec, enumerate_trials, plans, study_context


class Ground(NamedTuple):
    """What the study stands on, read once."""

    config: Config
    backbone: Backbone
    weights: Weights
    dataset: Dataset
    specs: tuple[TrialSpec, ...]


def run(config: Config, study: StudyPaths, command: str, reporter: Reporter, should_stop: Callable[[], bool]) -> None:
    """Everything but the report. Raises UserError on what a user can mend, train.trial.Interrupted when asked to stop."""
    clock = _Clock()
    with clock.phase("data"):
        ground = lay_ground(config, reporter)
    record.write_study(study, ground.config, _described(ground), command)
    _write_images(ground.dataset, study)
    for spec in ground.specs:
        # A kill after the result and before the clean-up leaves these behind.
        if study.trial(spec.id).result.exists() and study.trial(spec.id).running.exists():
            shutil.rmtree(study.trial(spec.id).running)
    pending = [spec for spec in ground.specs if not study.trial(spec.id).result.exists()]
    probed = (study.probes / "result.json").exists()
    if probed and not pending:
        return
    _say_left_out(ground.dataset, reporter)
    feed = make_feed(ground.dataset.images)
    reporter.say(f"{feed.where}; {len(pending)} of {len(ground.specs)} trials to run on {record.device()}")
    flops = stage_flops(ground.backbone, ground.weights, ground.config.data.image_size)
    if not probed:
        with clock.phase("probes"):
            _probe_every_tap(ground, study, feed, flops, reporter, should_stop)
    try:
        if pending:
            _run_trials(ground, study, feed, flops, pending, reporter, should_stop, clock)
    finally:
        record.append_run(study, clock.seconds)


def lay_ground(config: Config, reporter: Reporter) -> Ground:
    """Weights, images and the list of trials. Raises UserError."""
    backbone, weights = load(config.backbone.name, config.backbone.weights)
    reporter.phase("images", 1)
    done = 0

    def on_image(count: int, total: int) -> None:
        nonlocal done
        reporter.advance((count - done) / max(total, 1))
        done = count

    dataset = prepare(config.data, backbone.preprocess.interpolation, on_image)
    context = study_context(config, weights_digest=weights.digest, data_digest=dataset.digest)
    specs = tuple(enumerate_trials(config, plans(config, backbone.stages, backbone.groups), context))
    return Ground(config, backbone, weights, dataset, specs)


def _write_images(dataset: Dataset, study: StudyPaths) -> None:
    """Who is in which split, for whoever must defend it; the report's subgroups read it too."""
    if study.images.exists():
        return
    split = np.empty(len(dataset.labels), dtype=object)
    for name, rows in dataset.splits.items():
        split[rows] = name
    label = np.array(dataset.classes)[dataset.labels]
    columns = {"id": dataset.ids, "group": dataset.groups, "label": label, "split": split, **dataset.extra}
    paths.write_by(study.images, lambda path: write_images(path, columns))


def _say_left_out(dataset: Dataset, reporter: Reporter) -> None:
    """Never silent: how many images are not used, the first of them, and where the rest is named."""
    left_out = dataset.report["left_out"]
    if left_out:
        total = len(left_out) + len(dataset.labels)
        first = f"{left_out[0]['id']} ({left_out[0]['reason']})"
        reporter.say(f"{len(left_out)} of {total} images left out, the first: {first}; all are named in the report")


def _described(ground: Ground) -> dict[str, Any]:
    """What study.json says beside config and machine."""
    return {
        "backbone": ground.backbone.name,
        "weights": {"source": ground.config.backbone.weights, "sha256": ground.weights.digest},
        "stages": list(ground.backbone.stages),
        "groups": {name: list(stages) for name, stages in ground.backbone.groups.items()},
        "dataset": ground.dataset.report | {"digest": ground.dataset.digest},
        "trials": [spec.record() for spec in ground.specs],
    }


def _probe_every_tap(
    ground: Ground,
    study: StudyPaths,
    feed: Feed,
    flops: Sequence[float],
    reporter: Reporter,
    should_stop: Callable[[], bool],
) -> None:
    """One pass, then a linear classifier a tap; written last: result.json."""
    reporter.phase("features", len(ground.dataset.labels))
    size = ground.config.train.batch_size

    def on_images(count: int) -> None:
        reporter.advance(count)
        if should_stop():
            raise Interrupted("nothing: the probes, which start anew,")

    began = time.perf_counter()
    features = extract(ground.backbone, ground.weights, ground.dataset, feed, size, on_images)
    pass_seconds = time.perf_counter() - began
    reporter.phase("probes", len(features.taps))
    rows, heads = [], {}
    study.probes.mkdir(parents=True, exist_ok=True)
    for index, (stage, values) in enumerate(zip(ground.backbone.stages, features.taps, strict=True)):
        started = time.perf_counter()
        found = probe.fit_probe(values, ground.dataset)
        seconds = time.perf_counter() - started
        write_predictions(study.probes / f"{stage}.parquet", found.predictions)
        heads |= {f"{stage}/{name}": values for name, values in found.head.items()}
        # The network up to the tap is paid for too, by its share of the pass.
        share = sum(flops[: index + 1]) / sum(flops)
        rows.append(probe.record(stage, index, found, sum(flops[: index + 1]), seconds + share * pass_seconds))
        reporter.advance(1, stage)
    paths.write_by(study.probes / "heads.npz", lambda path: np.savez(path, **heads))
    rows_of_profile = profile(ground.backbone.stages, ground.weights.stats, features.moments)
    paths.write_json(study.probes / "result.json", {"probes": rows, "profile": rows_of_profile})


def _run_trials(
    ground: Ground,
    study: StudyPaths,
    feed: Feed,
    flops: Sequence[float],
    pending: Sequence[TrialSpec],
    reporter: Reporter,
    should_stop: Callable[[], bool],
    clock: "_Clock",
) -> None:
    """Every pending trial, plan by plan: first each plan's program, so that the time left can be told, then its trials."""
    heads = _heads(ground, study)
    bench = Bench(
        ground.dataset,
        feed,
        ground.weights.params,
        ground.weights.stats,
        ground.config.train,
        {"backbone": ground.backbone.name, "weights": ground.weights.digest},
        should_stop,
        count_compilations(),
        jax.tree.map(np.array, (ground.weights.params, ground.weights.stats)),
        record.versions() | {"git": record.git_revision()},
        reporter.say,
    )
    with clock.phase("compile"):
        programs = _compile(ground, feed, flops, pending, heads, reporter)
    forwards: dict[int, Forward] = {}
    steps = ground.config.train.epochs * steps_per_epoch(len(ground.dataset.splits["train"]), ground.config.train.batch_size)
    reporter.phase("trials", sum(programs[spec.plan].flops for spec in pending) * steps)
    done = len(ground.specs) - len(pending)
    with clock.phase("trials"):
        for plan, specs in groupby(pending, key=lambda spec: spec.plan):
            forward = forwards.setdefault(len(plan.stages), make_forward(ground.backbone, len(plan.stages)))
            for index, spec in enumerate(specs):
                title = f"trial {done + 1}/{len(ground.specs)} {spec.id.rpartition('-')[0]}"
                meter = _meter(reporter, programs[plan].flops, ground.config.train.batch_size, title)
                where, head, first = study.trial(spec.id), heads[plan.tap], index == 0
                result = run_trial(bench, spec, programs[plan], forward, head, where, meter, first_of_shape=first)
                done += 1
                if result["status"] != "done":
                    reporter.say(f"{spec.id}: {result['status']}, {result['note']}")


def _meter(reporter: Reporter, work: float, batch_size: int, title: str) -> Callable[[int], None]:
    """Counts each step, with the rate of this trial."""
    started, first = time.perf_counter(), -1

    def on_step(step: int) -> None:
        nonlocal first
        first = step - 1 if first < 0 else first
        rate = (step - first) * batch_size / max(time.perf_counter() - started, 1e-9)
        # Steps that an earlier run of this trial did count when the first new one does.
        reporter.advance(work * (step if step == first + 1 else 1), f"{title}, {rate:,.0f} images/s")

    return on_step


def _heads(ground: Ground, study: StudyPaths) -> dict[str, Any]:
    """The head each tap's trials start from."""
    classes = len(ground.dataset.classes)
    taps = {spec.plan.tap for spec in ground.specs}
    if ground.config.train.head_init == "zero":
        channels = dict(zip(ground.backbone.stages, ground.backbone.channels, strict=True))
        return {tap: {"kernel": jax.numpy.zeros((channels[tap], classes)), "bias": jax.numpy.zeros(classes)} for tap in taps}
    try:
        with np.load(study.probes / "heads.npz", allow_pickle=False) as file:
            return {tap: {name: jax.numpy.asarray(file[f"{tap}/{name}"]) for name in ("kernel", "bias")} for tap in taps}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        raise UserError(f"{study.probes}/heads.npz is damaged; delete the folder {study.probes} and run the same command") from None


def _compile(
    ground: Ground, feed: Feed, flops: Sequence[float], pending: Sequence[TrialSpec], heads: dict[str, Any], reporter: Reporter
) -> dict[FreezePlan, Program]:
    """One program a plan that still has trials to run: traced in turn, compiled side by side."""
    needed = list(dict.fromkeys(spec.plan for spec in pending))
    reporter.phase("compile", len(needed))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # The deepest backward passes take longest: first in, so that none is left over at the end.
        waiting = {plan: pool.submit(compile_step, _lower(ground, feed, flops, plan, heads[plan.tap])) for plan in reversed(needed)}
        programs = {}
        for plan, future in waiting.items():
            programs[plan] = future.result()
            reporter.advance(1, f"boundary {plan.boundary}")
    return programs


def _lower(ground: Ground, feed: Feed, flops: Sequence[float], plan: FreezePlan, head: Any) -> Lowered:
    recipe, train = ground.config.train, ground.dataset.splits["train"]
    rows, end = train[: recipe.batch_size], len(plan.stages)
    images, labels = feed.take(rows), jax.numpy.asarray(ground.dataset.labels[rows].astype(np.int32))
    parameters = Parameters(ground.weights.params[:end], head)
    mask = partition.trainable_mask(plan, parameters)
    # Only shapes are needed here; the state itself belongs to each trial.
    start = partial(initial_state, mask=mask, plan=plan, recipe=recipe)
    state, frozen = jax.eval_shape(start, parameters, ground.weights.stats[:end])
    arguments = (state, frozen, images, labels, jax.numpy.float32(0), jax.random.key(0))
    return lower_step(ground.backbone, plan, mask, recipe, class_shares(ground.dataset), flops, arguments)


class _Clock:
    """Seconds a phase took, summed."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
