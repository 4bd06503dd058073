"""A whole study, in the order of its life: weights, data, probes, trials, report. What is finished on disk is not done again."""

import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from fteng import paths, record
from fteng.analysis.bootstrap import group_weights
from fteng.backbones.backbone import Backbone
from fteng.backbones.catalogue import check_size, load
from fteng.backbones.flops import StageFlops, stage_flops
from fteng.backbones.weights import Weights
from fteng.config import Config
from fteng.data.prepare import Dataset, prepare, read_source
from fteng.errors import UserError
from fteng.freeze import partition
from fteng.freeze.partition import Parameters
from fteng.freeze.plan import FreezePlan
from fteng.paths import StudyPaths
from fteng.probe import probe
from fteng.probe.features import extract, output_widths
from fteng.probe.profile import profile
from fteng.probe.source_profile import Source, find_source
from fteng.progress import Reporter
from fteng.race.decide import Judge, deciding_metric
from fteng.race.run import Field, is_over, make_field, run_race
from fteng.results import read_predictions, write_images, write_predictions
from fteng.sweep.cost import plan_work
from fteng.sweep.run import run_exhaustive
from fteng.sweep.track import Site, compile_at_once, lay_track, make_starts
from fteng.train.compilations import count_compilations
from fteng.train.feed import Feed, make_feed
from fteng.train.trial import Bench, Interrupted
from fteng.trials import TrialSpec, enumerate_trials, plans, study_context


class Ground(NamedTuple):
    """What the study stands on, read once."""

    config: Config
    backbone: Backbone
    weights: Weights
    source: Source
    dataset: Dataset
    specs: tuple[TrialSpec, ...]


def run(config: Config, study: StudyPaths, command: str, reporter: Reporter, should_stop: Callable[[], bool]) -> None:
    """Everything but the report. Raises UserError on what a user can mend, train.trial.Interrupted when asked to stop."""
    clock = _Clock()
    with clock.phase("data"):
        ground = lay_ground(config, reporter)
    record.write_study(study, ground.config, _described(ground), command)
    _write_images(ground.dataset, study)
    pending = _pending(ground, study)
    probed = (study.probes / "result.json").exists()
    if probed and not pending:
        return
    _say_left_out(ground.dataset, reporter)
    feed = make_feed(ground.dataset.images)
    reporter.say(f"{feed.where}; {len(pending)} of {len(ground.specs)} trials to run on {record.device()}")
    flops = flops_of(ground, pending)
    kept: list[dict[str, Any]] = []
    if not probed:
        with clock.phase("probes"):
            _probe_every_tap(ground, study, feed, flops.forward, reporter, should_stop)
    try:
        if pending:
            kept = _run_trials(ground, study, feed, flops, pending, reporter, should_stop, clock)
    finally:
        record.append_run(study, clock.seconds, kept)


def _pending(ground: Ground, study: StudyPaths) -> list[TrialSpec]:
    """Trials that may have to run: those without a result, or stopped by a race that is not over, or is asked for no more."""
    racing = ground.config.sweep.search == "race"
    if racing and is_over(study.race, ground.specs):
        return []
    pending = []
    for spec in ground.specs:
        where = study.trial(spec.id)
        result = paths.read_json(where.result) if where.result.exists() else None
        if result is None or result["status"] == "stopped":
            pending.append(spec)
        elif where.running.exists():
            # A kill after the result and before the clean-up leaves these behind.
            shutil.rmtree(where.running)
    return pending


def lay_ground(config: Config, reporter: Reporter) -> Ground:
    """Weights, images and the list of trials. Raises UserError."""
    # Before the weights, which may take a download: who has no images yet is told so at once.
    records = read_source(config.data)
    backbone, weights = load(config.backbone)
    if set(config.sweep.batch_norm) != {"keep"} and not jax.tree.leaves(weights.stats):
        raise UserError(
            f"sweep.batch_norm: got {', '.join(config.sweep.batch_norm)}, but {backbone.name} has no batch norm; allowed: keep"
        )
    check_size(backbone, weights, config.data.image_size)
    planned = plans(config, backbone.stages, backbone.groups)
    _check_leaves(planned, backbone, weights)
    for note in weights.notes:
        reporter.say(f"{config.backbone.weights}: {note}")
    widths = partial(output_widths, backbone, weights, config.data.image_size)
    source = find_source(config.backbone.source_profile, backbone, weights, widths)
    reporter.phase("images", 1)
    done = 0

    def on_image(count: int, total: int) -> None:
        nonlocal done
        reporter.advance((count - done) / max(total, 1))
        done = count

    dataset = prepare(config.data, backbone.preprocess.interpolation, on_image, records, crop=backbone.preprocess.crop)
    context = study_context(
        config, weights_digest=weights.digest, data_digest=dataset.digest, preprocess=backbone.preprocess._asdict()
    )
    specs = tuple(enumerate_trials(config, planned, context))
    return Ground(config, backbone, weights, source, dataset, specs)


def _check_leaves(planned: Sequence[FreezePlan], backbone: Backbone, weights: Weights) -> None:
    """Raises UserError where a plan's stages have none of the leaves that shall train."""
    for plan in planned:
        mask = partition.trainable_mask(plan, Parameters(weights.params[: len(plan.stages)], {}))
        if any(plan.trains) and not any(jax.tree.leaves(mask.stages)):
            raise UserError(
                f"sweep.leaves: got {plan.leaves}, but {', '.join(plan.trainable_stages[:3])}"
                f"{', ...' * (len(plan.trainable_stages) > 3)} of {backbone.name} have none; leave {plan.leaves} out"
            )


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
        "weights": {
            "source": ground.config.backbone.weights,
            "sha256": ground.weights.digest,
            "preprocess": ground.backbone.preprocess._asdict(),
        },
        "source_profile": ground.source.facts,
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
    rows_of_profile = profile(ground.backbone.stages, ground.source, features.moments)
    paths.write_json(study.probes / "result.json", {"probes": rows, "profile": rows_of_profile})


def _run_trials(
    ground: Ground,
    study: StudyPaths,
    feed: Feed,
    flops: StageFlops,
    pending: Sequence[TrialSpec],
    reporter: Reporter,
    should_stop: Callable[[], bool],
    clock: "_Clock",
) -> list[dict[str, Any]]:
    """Every pending trial. Returns which activations were kept, for the record."""
    site = make_site(ground, study, feed, reporter, should_stop)
    with clock.phase("starts"):
        starts = make_starts(site, ground.specs, pending)
    with clock.phase("prefix"):
        track, kept = lay_track(site, starts, pending, flops)
    if ground.config.sweep.search == "race":
        with clock.phase("trials"):
            run_race(track, _field(ground, study), study.race)
    else:
        with clock.phase("compile"):
            compile_at_once(track, pending)
        plan_work(track, pending)
        with clock.phase("trials"):
            run_exhaustive(track, pending)
    # Nobody asks for them again.
    shutil.rmtree(study.prefix, ignore_errors=True)
    return kept


def make_site(ground: Ground, study: StudyPaths, feed: Feed, reporter: Reporter, should_stop: Callable[[], bool]) -> Site:
    """Where the trials of this study run."""
    provenance = record.versions() | {"git": record.git_revision()}
    bench = Bench(ground.dataset, ground.config.train, should_stop, count_compilations(), provenance, reporter.say)
    return Site(ground.config, ground.backbone, ground.weights, ground.dataset, feed, study, reporter, bench)


def flops_of(ground: Ground, pending: Sequence[TrialSpec]) -> StageFlops:
    """Of each stage, its gradients where one of these trials needs them."""
    trained = [spec.plan.boundary for spec in pending if any(spec.plan.trains)]
    size, batch = ground.config.data.image_size, ground.config.train.batch_size
    return stage_flops(ground.backbone, ground.weights, size, batch, min(trained, default=None))


def _field(ground: Ground, study: StudyPaths) -> Field:
    """All that races, with the probes, which stand already."""
    judge = ground.config.judge
    taps = [row["tap"] for row in paths.read_json(study.probes / "result.json")["probes"]]
    probes = {tap: read_predictions(study.probes / f"{tap}.parquet")["val"] for tap in taps}
    groups = next(iter(probes.values())).groups
    weights = group_weights(groups, judge.resamples, zlib.crc32(b"val"))
    metric = deciding_metric(judge.metric, len(ground.dataset.classes))
    return make_field(ground.specs, probes, Judge(metric, judge.margin, judge.confidence, weights))


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
