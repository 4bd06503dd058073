"""A whole study, in the order of its life: weights, data, probes, trials, report. What is finished on disk is not done again."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fteng import distributed, paths, record, steer
from fteng.backbones.flops import StageFlops
from fteng.config import Config
from fteng.data.prepare import Dataset
from fteng.errors import UserError
from fteng.feed import Feed, make_feed
from fteng.ground import Ground, flops_of, lay_ground
from fteng.mesh import make_mesh
from fteng.paths import StudyPaths
from fteng.pending import added_trials, in_parts, pending_trials, widened
from fteng.progress import Reporter
from fteng.race.field import lay_race
from fteng.race.run import run_race
from fteng.results import write_images
from fteng.survey import asked_of, survey
from fteng.sweep.cost import plan_work
from fteng.sweep.foresee import foresee
from fteng.sweep.memory import predicted_memory
from fteng.sweep.run import run_exhaustive
from fteng.sweep.track import Site, blank_starts, compile_at_once, lay_track, make_starts
from fteng.train.batches import length_of
from fteng.train.compilations import count_compilations
from fteng.train.trial import Bench
from fteng.trials import TrialSpec, TrialWork

# Once a process: a listener stays for ever, and what git says later is not what was imported.
_compilations, _revision = cache(count_compilations), cache(record.git_revision)


def run(config: Config, study: StudyPaths, command: str, reporter: Reporter, should_stop: Callable[[], bool]) -> None:
    """Everything but the report. Raises UserError on what a user can mend, errors.Interrupted when asked to stop."""
    spent = _Spent()
    ground = _lay(config, study, command, reporter, spent)
    pending = pending_trials(ground, study, reporter)
    probed = _is_probed(study, config)
    if probed and not pending and not added_trials(ground, study, reporter)[1]:
        _forget_prefix(study)
        return
    _say_left_out(ground.dataset, reporter)
    site = make_site(ground, study, lay_feed(ground), reporter, should_stop)
    racing = ground.config.sweep.search == "race"
    reporter.say(
        f"{site.feed.where}; {'at most ' * racing}{len(pending)} of {len(ground.specs)} trials to run on {record.device()}"
    )
    flops = flops_of(ground, pending)
    if not probed:
        with spent.phase("probes"):
            _survey(site, flops)
    try:
        if pending:
            _run_trials(site, pending, flops, spent)
        # What was asked for beside the config, also meanwhile.
        while (found := added_trials(ground, study, reporter))[1]:
            wider, wanted = found
            if distributed.is_main():
                _write_study(ground, wider, study, command)
            reporter.say(f"added to the study: {', '.join(spec.id for spec in wanted)}")
            _run_trials(make_site(wider, study, site.feed, reporter, should_stop), wanted, flops_of(wider, wanted), spent)
        _forget_prefix(study)
    finally:
        if distributed.is_main():
            spent.record(study)


def run_survey(
    config: Config, study: StudyPaths, command: str, reporter: Reporter, should_stop: Callable[[], bool]
) -> list[TrialWork]:
    """The first part of a study that runs in parts: all before the trials, what each of them will take, and their starts on disk.

    Raises what `run` raises.
    """
    spent = _Spent()
    ground = in_parts(_lay(config, study, command, reporter, spent), study)
    _say_left_out(ground.dataset, reporter)
    site, flops = make_site(ground, study, lay_feed(ground), reporter, should_stop), flops_of(ground, ground.specs)
    if not _is_probed(study, config):
        with spent.phase("probes"):
            _survey(site, flops)
    with spent.phase("starts"):
        starts = make_starts(site, ground.specs, ground.specs)
        work = foresee(site, starts, ground.specs, flops)
    if distributed.is_main():
        spent.record(study)
    return work


def make_parts(
    config: Config, study: StudyPaths, reporter: Reporter, should_stop: Callable[[], bool]
) -> Callable[[Sequence[str]], None]:
    """The function that runs some of the trials, by id, after `run_survey`; other processes may run others meanwhile.

    Both raise what `run` raises.
    """
    ground = in_parts(lay_ground(config, reporter), study)
    record.check_study(study, ground.config, _described(ground))
    site, flops = make_site(ground, study, lay_feed(ground), reporter, should_stop), flops_of(ground, ground.specs)

    def run_part(trials: Sequence[str]) -> None:
        spent, wanted = _Spent(), set(trials)
        pending = [spec for spec in pending_trials(ground, study, reporter, wanted) if spec.id in wanted]
        try:
            if pending:
                _run_trials(site, pending, flops, spent)
        finally:
            if distributed.is_main():
                spent.record(study)

    return run_part


def _is_probed(study: StudyPaths, config: Config) -> bool:
    """Whether the survey stands, and is of this config; what is of another one goes, and so do its pictures. Raises UserError
    where it cannot be used, before any trial."""
    if not distributed.agree(study.surveyed.exists()):
        return False
    # It goes once all have read it.
    same = distributed.everyone(record.read_survey(study)["asked"] == asked_of(config))
    if not same and distributed.is_main():
        study.surveyed.unlink()
        study.similarity.unlink(missing_ok=True)
    return same


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


def _lay(config: Config, study: StudyPaths, command: str, reporter: Reporter, spent: "_Spent") -> Ground:
    """The ground, and the first files."""
    with spent.phase("data"), distributed.main_first():
        ground = lay_ground(config, reporter)
    wider = widened(ground, study)
    if distributed.is_main():
        _write_study(ground, wider, study, command)
        _write_images(ground.dataset, study)
    return ground


def lay_feed(ground: Ground) -> Feed:
    """The images, on the devices that each trial is to be on."""
    recipe = ground.config.train
    batch = length_of(recipe, len(ground.dataset.splits["train"])).batch
    mesh = make_mesh(recipe.devices, batch, lanes=recipe.lanes, shard_frozen=recipe.shard_frozen)
    return make_feed(ground.dataset.images, mesh)


def _survey(site: Site, flops: StageFlops) -> None:
    """The pass over the images is of all processes; what the others make of it is for nobody."""
    with tempfile.TemporaryDirectory() as nobody:
        where = site.study if distributed.is_main() else StudyPaths(Path(nobody))
        survey(site._replace(study=where), flops.forward)
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
            "batch_norm": bool(jax.tree.leaves(ground.weights.stats)),
            "preprocess": ground.backbone.preprocess._asdict(),
        },
        "source_profile": ground.source.facts,
        "stages": list(ground.backbone.stages),
        "groups": {name: list(stages) for name, stages in ground.backbone.groups.items()},
        "dataset": ground.dataset.report | {"digest": ground.dataset.digest},
        "trials": [spec.record() for spec in ground.specs],
    }


def _run_trials(site: Site, pending: Sequence[TrialSpec], flops: StageFlops, spent: "_Spent") -> None:
    """Every pending trial."""
    ground = site.ground
    with spent.phase("starts"):
        starts = make_starts(site, ground.specs, pending)
    with spent.phase("prefix"):
        track, found = lay_track(site, starts, ground.specs, pending, flops)
        spent.kept += found
    if ground.config.sweep.search == "race":
        with spent.phase("trials"):
            run_race(track, lay_race(ground.specs, ground.config, len(ground.dataset.classes), site.study), site.study.race)
    else:
        with spent.phase("compile"):
            compile_at_once(track, pending)
            # What is to be cached is held by now.
            memory = predicted_memory(track, pending, ())
        site.reporter.say(f"memory at the peak of the trials: about {memory}")
        spent.predicted_bytes = max(spent.predicted_bytes, sum(memory))
        plan_work(track, pending)
        with spent.phase("trials"):
            run_exhaustive(track, pending)


def make_site(ground: Ground, study: StudyPaths, feed: Feed, reporter: Reporter, should_stop: Callable[[], bool]) -> Site:
    """Where the trials of this study run."""
    provenance = record.versions() | {"git": _revision()}
    racing = ground.config.sweep.search == "race"

    def halted() -> list[str]:
        # A race needs all of its trials.
        return [] if racing else distributed.from_main(lambda: list(steer.read(study).stopped))

    recipe = ground.config.train
    beat = partial(reporter.advance, 0.0)
    bench = Bench(ground.dataset, recipe, should_stop, _compilations(), provenance, reporter.say, feed.mesh, halted, beat)
    return Site(ground, study, feed, reporter, bench)


class _Spent:
    """What a run of the study takes, for the record. kept: which activations are cached; predicted_bytes: of memory at its peak, 0
    where nobody said."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.kept: list[dict[str, Any]] = []
        self.predicted_bytes = 0

    def record(self, study: StudyPaths) -> None:
        """In study.json."""
        record.append_run(study, self.seconds, self.kept, self.predicted_bytes)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
