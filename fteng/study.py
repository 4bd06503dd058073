"""A whole study, in the order of its life: weights, data, probes, trials, report. What is finished on disk is not done again."""

import dataclasses
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from fteng import distributed, paths, record, steer
from fteng.analysis.bootstrap import group_weights
from fteng.analysis.recommend import Candidate
from fteng.backbones.flops import StageFlops
from fteng.config import Config
from fteng.data.prepare import Dataset
from fteng.errors import UserError
from fteng.ground import Ground, flops_of, lay_ground
from fteng.mesh import make_mesh
from fteng.paths import StudyPaths, TrialPaths
from fteng.progress import Reporter
from fteng.race.decide import Judge, deciding_metric
from fteng.race.run import Field, is_over, make_field, run_race
from fteng.results import read_predictions, write_images
from fteng.survey import survey
from fteng.sweep.cost import plan_work
from fteng.sweep.foresee import foresee
from fteng.sweep.run import run_exhaustive
from fteng.sweep.track import Site, blank_starts, compile_at_once, lay_track, make_starts
from fteng.train.compilations import count_compilations
from fteng.train.feed import Feed, make_feed
from fteng.train.trial import Bench
from fteng.trials import TrialSpec, TrialWork

# Once a process: a listener stays for ever, and what git says later is not what was imported.
_compilations, _revision = cache(count_compilations), cache(record.git_revision)


def run(config: Config, study: StudyPaths, command: str, reporter: Reporter, should_stop: Callable[[], bool]) -> None:
    """Everything but the report. Raises UserError on what a user can mend, train.trial.Interrupted when asked to stop."""
    clock = _Clock()
    ground = _lay(config, study, command, reporter, clock)
    pending = _pending(ground, study, reporter)
    probed = distributed.agree((study.probes / "result.json").exists())
    if probed and not pending and not _added(ground, study, reporter)[1]:
        _forget_prefix(study)
        return
    _say_left_out(ground.dataset, reporter)
    feed = lay_feed(ground)
    racing = ground.config.sweep.search == "race"
    reporter.say(f"{feed.where}; {'at most ' * racing}{len(pending)} of {len(ground.specs)} trials to run on {record.device()}")
    flops = flops_of(ground, pending)
    kept: list[dict[str, Any]] = []
    if not probed:
        with clock.phase("probes"):
            _survey(ground, study, feed, flops, reporter, should_stop)
    try:
        if pending:
            _run_trials(ground, study, feed, flops, pending, reporter, should_stop, clock, kept)
        # What was asked for beside the config, also meanwhile.
        while (found := _added(ground, study, reporter))[1]:
            wider, wanted = found
            if distributed.is_main():
                _write_study(ground, wider, study, command)
            reporter.say(f"added to the study: {', '.join(spec.id for spec in wanted)}")
            _run_trials(wider, study, feed, flops_of(wider, wanted), wanted, reporter, should_stop, clock, kept)
        _forget_prefix(study)
    finally:
        if distributed.is_main():
            record.append_run(study, clock.seconds, kept)


def run_survey(
    config: Config, study: StudyPaths, command: str, reporter: Reporter, should_stop: Callable[[], bool]
) -> list[TrialWork]:
    """The first part of a study that runs in parts: all before the trials, what each of them will take, and their starts on disk.

    Raises what `run` raises.
    """
    clock = _Clock()
    ground = _in_parts(_lay(config, study, command, reporter, clock), study)
    _say_left_out(ground.dataset, reporter)
    feed, flops = lay_feed(ground), flops_of(ground, ground.specs)
    if not distributed.agree((study.probes / "result.json").exists()):
        with clock.phase("probes"):
            _survey(ground, study, feed, flops, reporter, should_stop)
    site = make_site(ground, study, feed, reporter, should_stop)
    with clock.phase("starts"):
        starts = make_starts(site, ground.specs, ground.specs)
        work = foresee(site, starts, ground.specs, flops)
    if distributed.is_main():
        record.append_run(study, clock.seconds, [])
    return work


def make_parts(
    config: Config, study: StudyPaths, reporter: Reporter, should_stop: Callable[[], bool]
) -> Callable[[Sequence[str]], None]:
    """The function that runs some of the trials, by id, after `run_survey`; other processes may run others meanwhile.

    Both raise what `run` raises.
    """
    ground = _in_parts(lay_ground(config, reporter), study)
    record.check_study(study, ground.config, _described(ground))
    feed, flops = lay_feed(ground), flops_of(ground, ground.specs)

    def run_part(trials: Sequence[str]) -> None:
        clock, wanted = _Clock(), set(trials)
        kept: list[dict[str, Any]] = []
        pending = [spec for spec in _pending(ground, study, reporter, wanted) if spec.id in wanted]
        try:
            if pending:
                _run_trials(ground, study, feed, flops, pending, reporter, should_stop, clock, kept)
        finally:
            if distributed.is_main():
                record.append_run(study, clock.seconds, kept)

    return run_part


def foresee_all(config: Config, study: StudyPaths, reporter: Reporter) -> list[TrialWork]:
    """What each trial will take, before there is anything on disk."""
    ground = lay_ground(config, reporter)
    try:
        feed = lay_feed(ground)
    except UserError as error:
        # Where it is to run there may be more of them.
        reporter.say(f"seconds are those of one device: {error}")
        feed = make_feed(ground.dataset.images)
    site = make_site(ground, study, feed, reporter, lambda: False)
    return foresee(site, blank_starts(site, ground.specs), ground.specs, flops_of(ground, ground.specs))


def _lay(config: Config, study: StudyPaths, command: str, reporter: Reporter, clock: "_Clock") -> Ground:
    """The ground, and the first files."""
    with clock.phase("data"), distributed.main_first():
        ground = lay_ground(config, reporter)
    wider = _widened(ground, study)
    if distributed.is_main():
        _write_study(ground, wider, study, command)
        _write_images(ground.dataset, study)
    return ground


def lay_feed(ground: Ground) -> Feed:
    """The images, on the devices that each trial is to be on."""
    recipe = ground.config.train
    batch = min(recipe.batch_size, len(ground.dataset.splits["train"]))
    mesh = make_mesh(recipe.devices, batch, shard_frozen=recipe.shard_frozen)
    return make_feed(ground.dataset.images, mesh)


def _survey(
    ground: Ground, study: StudyPaths, feed: Feed, flops: StageFlops, reporter: Reporter, should_stop: Callable[[], bool]
) -> None:
    """The pass over the images is of all processes; what the others make of it is for nobody."""
    with tempfile.TemporaryDirectory() as nobody:
        where = study if distributed.is_main() else StudyPaths(Path(nobody))
        survey(ground, where, feed, flops.forward, reporter, should_stop)
    distributed.wait()


def _forget_prefix(study: StudyPaths) -> None:
    """Nobody asks for the activations again."""
    if distributed.is_main():
        shutil.rmtree(study.prefix, ignore_errors=True)


def _write_study(ground: Ground, wider: Ground, study: StudyPaths, command: str) -> None:
    """study.json. wider: with the trials that were added."""
    asked = {spec.id for spec in ground.specs}
    described = _described(wider) | {"added": [spec.id for spec in wider.specs if spec.id not in asked]}
    record.write_study(study, ground.config, described, command)


def _widened(ground: Ground, study: StudyPaths) -> Ground:
    """With the trials that were asked for beside the config. No race: those it has decided on would not be the same."""
    asked = steer.Steering(*distributed.agree(steer.read(study) if distributed.is_main() else None))
    sweep = dataclasses.replace(ground.config.sweep, search="exhaustive")
    specs = (*ground.specs, *steer.added(ground.specs, asked))
    return ground._replace(config=dataclasses.replace(ground.config, sweep=sweep), specs=specs)


def _in_parts(ground: Ground, study: StudyPaths) -> Ground:
    """A race is one part; what is added to it waits for python -m fteng.main."""
    return ground if ground.config.sweep.search == "race" else _widened(ground, study)


def _added(ground: Ground, study: StudyPaths, reporter: Reporter) -> tuple[Ground, list[TrialSpec]]:
    """(`_widened`, those of its trials that were asked for and are yet to run)."""
    wider = _widened(ground, study)
    mine = {spec.id for spec in wider.specs} - {spec.id for spec in ground.specs}
    if ground.config.sweep.search != "race":
        # Also those that were stopped, and are to go on.
        mine |= {spec.id for spec in ground.specs}
    return wider, _pending(wider, study, reporter, mine)


def _pending(ground: Ground, study: StudyPaths, reporter: Reporter, among: Container[str] | None = None) -> list[TrialSpec]:
    """`_unfinished`, as the first process finds it."""
    found = [spec.id for spec in _unfinished(ground, study, reporter, among)] if distributed.is_main() else []
    wanted = set(distributed.agree(found))
    return [spec for spec in ground.specs if spec.id in wanted]


def _unfinished(ground: Ground, study: StudyPaths, reporter: Reporter, among: Container[str] | None = None) -> list[TrialSpec]:
    """Trials that may have to run: those without a result, or stopped by a race that is not over, or is asked for no more.

    A result that cannot be read is set aside. among: the ids to look at, where others are not ours to touch.
    """
    racing = ground.config.sweep.search == "race"
    if racing and is_over(study, ground.specs, _settings(ground)):
        return []
    pending, stopped = [], steer.read(study).stopped
    for spec in ground.specs:
        if among is not None and spec.id not in among:
            continue
        where = study.trial(spec.id)
        result = _result(where, reporter)
        if result is None or result["status"] == "stopped":
            if spec.id not in stopped:
                pending.append(spec)
        elif where.running.exists():
            # A kill after the result and before the clean-up leaves these behind.
            shutil.rmtree(where.running)
    # Which of them a race asks for, it finds out itself.
    return list(ground.specs) if racing else pending


def _result(where: TrialPaths, reporter: Reporter) -> dict[str, Any] | None:
    """A trial's result if there is one; a damaged one is kept under another name, and the trial counts as not run."""
    if not where.result.exists():
        return None
    try:
        result = paths.read_json(where.result)
        result["status"]
    except (UserError, KeyError, TypeError):
        aside = where.result.with_suffix(".damaged")
        where.result.replace(aside)
        reporter.say(f"{where.result} is damaged (now {aside.name}); its trial is run again")
        return None
    return result


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


def _run_trials(
    ground: Ground,
    study: StudyPaths,
    feed: Feed,
    flops: StageFlops,
    pending: Sequence[TrialSpec],
    reporter: Reporter,
    should_stop: Callable[[], bool],
    clock: "_Clock",
    kept: list[dict[str, Any]],
) -> None:
    """Every pending trial. kept: is told which activations are kept, for the record."""
    site = make_site(ground, study, feed, reporter, should_stop)
    with clock.phase("starts"):
        starts = make_starts(site, ground.specs, pending)
    with clock.phase("prefix"):
        track, found = lay_track(site, starts, ground.specs, pending, flops)
        kept += found
    if ground.config.sweep.search == "race":
        with clock.phase("trials"):
            run_race(track, _field(ground, study), study.race)
    else:
        with clock.phase("compile"):
            compile_at_once(track, pending)
        plan_work(track, pending)
        with clock.phase("trials"):
            run_exhaustive(track, pending)


def make_site(ground: Ground, study: StudyPaths, feed: Feed, reporter: Reporter, should_stop: Callable[[], bool]) -> Site:
    """Where the trials of this study run."""
    provenance = record.versions() | {"git": _revision()}
    racing = ground.config.sweep.search == "race"

    def halted() -> list[str]:
        # A race needs all of its trials.
        return [] if racing else distributed.agree(list(steer.read(study).stopped) if distributed.is_main() else [])

    recipe = ground.config.train
    beat = partial(reporter.advance, 0.0)
    bench = Bench(ground.dataset, recipe, should_stop, _compilations(), provenance, reporter.say, feed.mesh, halted, beat)
    return Site(ground.config, ground.backbone, ground.weights, ground.dataset, feed, study, reporter, bench)


def _field(ground: Ground, study: StudyPaths) -> Field:
    """All that races, with the probes, which stand already."""
    judge = ground.config.judge
    probes = []
    for row in paths.read_json(study.probes / "result.json")["probes"]:
        answers = read_predictions(study.probes / f"{row['tap']}.parquet")["val"]
        name, cost = f"linear classifier on {row['tap']}", row["cost"]["flops_per_example"]
        probes.append(Candidate(name, row["tap"], row["stage_index"] + 1, 0, cost, [answers], []))
    weights = group_weights(probes[0].val[0].groups, judge.resamples, zlib.crc32(b"val"))
    settings = _settings(ground)
    return make_field(ground.specs, probes, Judge(settings["metric"], judge.margin, judge.confidence, weights), settings)


def _settings(ground: Ground) -> dict[str, Any]:
    """How the race judges, as race.json keeps it."""
    judge = ground.config.judge
    metric = deciding_metric(judge.metric, len(ground.dataset.classes))
    return {"metric": metric, "margin": judge.margin, "confidence": judge.confidence, "resamples": judge.resamples}


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
