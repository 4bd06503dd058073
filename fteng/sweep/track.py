"""What the trials of a study run on: starts, compiled steps, cached activations."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from fteng import record
from fteng.backbones.flops import StageFlops
from fteng.distributed import agree, wait
from fteng.entry import Entry, entry_of
from fteng.errors import Interrupted
from fteng.feed import Feed
from fteng.ground import Ground
from fteng.mesh import Mesh
from fteng.paths import StudyPaths
from fteng.prefix import budget, cache
from fteng.prefix.walk import Walk
from fteng.progress import Reporter
from fteng.starts import Pretrained, prepare_start, read_start
from fteng.sweep.lanes import lanes_of
from fteng.sweep.programs import Programs
from fteng.train.batches import Inputs
from fteng.train.evaluate import Forward
from fteng.train.shape import Shape, shape_of
from fteng.train.start import Start
from fteng.train.step import Program
from fteng.train.trial import Bench
from fteng.trials import TrialSpec


class Site(NamedTuple):
    """Where a study runs: what it stands on, its files, its images on their devices, who is told, and what its trials share."""

    ground: Ground
    study: StudyPaths
    feed: Feed
    reporter: Reporter
    bench: Bench


class Track(NamedTuple):
    """What trials run on. inputs: of (start, entry); seconds_to: of an image from its pixels to each cut; paces: seconds of a step,
    measured when a shape is first needed; lanes: of each trial, by id; met: shapes with their starts and lanes of which a trial has
    begun in this process."""

    site: Site
    programs: Programs
    flops: StageFlops
    starts: Mapping[str, Start]
    inputs: Mapping[tuple[str, Entry], Inputs]
    walk: Walk
    seconds_to: Mapping[int, float]
    forwards: dict[tuple[Entry, int], Forward]
    paces: dict[Shape, float]
    lanes: Mapping[str, int]
    met: set[tuple[Shape, str, int]]

    def shape(self, spec: TrialSpec) -> Shape:
        """Of a trial of this study."""
        return shape_of(spec.plan, spec.variant, self.site.ground.config.train)

    def program(self, spec: TrialSpec) -> Program:
        """The compiled step of a trial."""
        return self.programs.get(self.shape(spec), self.lanes[spec.id], self.starts[spec.variant.start])

    def lane(self, spec: TrialSpec) -> Mesh:
        """The devices that a trial is on."""
        return self.site.feed.mesh.lane(self.lanes[spec.id])


def inputs_of(track: Track, spec: TrialSpec) -> Inputs:
    """What a trial takes."""
    return track.inputs[spec.variant.start, track.shape(spec).entry]


def lay_track(
    site: Site,
    starts: Mapping[str, Start],
    specs: Sequence[TrialSpec],
    pending: Sequence[TrialSpec],
    flops: StageFlops,
    *,
    fill: bool = True,
) -> tuple[Track, list[dict[str, Any]]]:
    """Caches for the pending trials of `specs`; and what is cached, for the record. fill: compute it, or only choose it."""
    recipe = site.ground.config.train
    # Of all trials, not only those that are left, so that files on disk fit from run to run.
    walk = Walk(site.ground.backbone, recipe, {entry_of(spec.plan, spec.variant, recipe) for spec in specs}, site.feed.mesh)
    inputs: dict[tuple[str, Entry], Inputs] = {}
    kept: list[dict[str, Any]] = []
    some = next(iter(starts.values()))
    seconds_to = walk.seconds(some, site.feed.take(site.ground.dataset.splits["train"][: site.bench.length.batch]))
    # What is kept follows from it.
    seconds_to = dict(zip(seconds_to, agree(list(seconds_to.values())), strict=True))
    room = budget.free_room(site.ground.config.sweep.cache_gib, site.ground.config.sweep.cache_disk_gib, site.study.root)
    for name, start in starts.items():
        mine = [spec for spec in pending if spec.variant.start == name]
        job = _cache_job(site, walk, start)
        choices = _choices(site, job, seconds_to, mine, room)
        room = budget.less(room, choices)
        filled = _filled(site, job, choices) if fill else {}
        chosen = {choice.entry for choice in choices if choice.place}
        for choice in choices:
            found = cache.inputs_at(job, filled, choice.entry)
            begin, images = cache.read_from(job, chosen, choice.entry)
            inputs[name, choice.entry] = found if fill else found._replace(begin=begin, kept_images=images)
        kept += [{"start": name, **choice.record(site.ground.backbone.stages)} for choice in choices]
    programs = Programs(site.ground.backbone, site.ground.dataset, recipe, walk, flops, some)
    lanes = lanes_of(specs, recipe, site.feed.mesh.lanes)
    return Track(site, programs, flops, starts, inputs, walk, seconds_to, {}, {}, lanes, set()), kept


def compile_at_once(track: Track, pending: Sequence[TrialSpec]) -> None:
    """Every step that these trials need, so that the time left can be told."""
    needed = {(track.shape(spec), track.lanes[spec.id]): track.starts[spec.variant.start] for spec in pending}
    track.site.reporter.phase("compile", len(needed))
    alive = _alive(track.site, "compiled steps alone")

    def on_program(count: int, what: str) -> None:
        track.site.reporter.advance(count, what)
        alive(0)

    track.programs.prepare(needed, on_program)


def make_starts(site: Site, specs: Sequence[TrialSpec], pending: Sequence[TrialSpec]) -> dict[str, Start]:
    """Every start that a pending trial needs, with the heads of its taps."""
    taps: dict[str, dict[str, None]] = {}
    for spec in specs:
        taps.setdefault(spec.variant.start, {})[spec.plan.tap] = None
    needed = list(dict.fromkeys(spec.variant.start for spec in pending))
    site.reporter.phase("starts", len(needed))
    pretrained = Pretrained(site.ground.config, site.ground.backbone, site.ground.weights)
    starts = {}
    for name in needed:
        prepare_start(
            name, taps[name], pretrained, site.ground.dataset, site.feed, site.study, _alive(site, "the starts, which begin anew")
        )
        wait()
        starts[name] = _placed(read_start(name, taps[name], pretrained, site.study), site)
        site.reporter.advance(1, name)
    return starts


def _alive(site: Site, what: str, work: float = 0.0) -> Callable[[int], None]:
    """Told of images that are through: a sign of life for whoever watches, and the moment at which a request to stop is heard.
    what: is interrupted."""

    def on_images(count: int) -> None:
        site.reporter.advance(work * count)
        if site.bench.should_stop():
            raise Interrupted(f"in the midst of {what}")

    return on_images


def blank_starts(site: Site, pending: Sequence[TrialSpec]) -> dict[str, Start]:
    """The same in shape alone, before there are probes: pretrained numbers, heads of zeros."""
    classes, stages = len(site.ground.dataset.classes), site.ground.backbone.stages
    heads = {
        tap: {"kernel": jnp.zeros((channels, classes)), "bias": jnp.zeros(classes)}
        for tap, channels in zip(stages, site.ground.backbone.channels, strict=True)
    }
    numbers = site.ground.weights.params, site.ground.weights.stats
    blank = _placed(Start(*numbers, heads, {"weights": site.ground.weights.digest}, numbers), site)
    return {spec.variant.start: blank for spec in pending}


def _placed(start: Start, site: Site) -> Start:
    """Its numbers on the mesh. Heads always train."""
    stages, stats = site.feed.mesh.frozen((start.stages, start.stats))
    return start._replace(stages=stages, stats=stats, heads=site.feed.mesh.whole(start.heads))


def _cache_job(site: Site, walk: Walk, start: Start) -> cache.CacheJob:
    """What a walk from the images of this study goes over."""
    dataset, recipe = site.ground.dataset, site.ground.config.train
    layout = cache.make_layout(dataset, recipe)
    identity = {
        "start": start.identity,
        "preprocess": site.ground.backbone.preprocess._asdict(),
        "data": dataset.digest,
        "augment": list(recipe.augment),
        "views": recipe.views,
        "activations": recipe.activations,
        "versions": record.versions(),
    }
    return cache.CacheJob(walk, start, dataset, site.feed, layout, site.bench.length.batch, identity)


def _choices(
    site: Site, job: cache.CacheJob, seconds_to: Mapping[int, float], pending: Sequence[TrialSpec], room: budget.Room
) -> list[budget.Choice]:
    """What of the activations that these trials need is worth keeping, and where."""
    dataset, recipe, layout = site.ground.dataset, site.ground.config.train, job.layout
    shapes = job.walk.shapes(job.start, dataset.images.shape[1], job.batch)
    together = {(entry_of(spec.plan, spec.variant, recipe), spec.seed) for spec in pending}
    wants = []
    for entry in sorted({entry for entry, _ in together}):
        one = shapes[entry]
        bytes_of_one = one.dtype.itemsize * (one.size // job.batch)
        runs = sum(other == entry for other, _ in together)
        seen = recipe.epochs * len(dataset.splits["train"]) * bool(layout.views)
        judged = (recipe.epochs + 1) * len(dataset.splits["val"]) + len(dataset.splits["test"])
        wants.append(budget.Want(entry, runs * (seen + judged), layout.slots * bytes_of_one))
    choices = budget.choose(wants, budget.Prices(seconds_to, layout.slots, job.walk.exact), room)
    for choice in choices:
        if choice.entry.stage:
            what = f"prefix of {choice.entry.stage} stages{' (features)' if choice.entry.pooled else ''}"
            done = f"cached: {choice.reason}" if choice.place else f"recomputed at every batch: {choice.reason}"
            site.reporter.say(f"{what} {done}")
    return choices


def _filled(site: Site, job: cache.CacheJob, choices: Sequence[budget.Choice]) -> dict[Entry, cache.Kept]:
    if any(choice.place for choice in choices):
        site.reporter.phase("prefix", job.layout.slots)
    on_images = _alive(site, "the walk through frozen stages, which begins anew", work=1.0)
    kept = cache.fill(job, choices, site.study.prefix, site.reporter.say, on_images)
    lossy = {entry.stage: one.error for entry, one in kept.items() if one.error}
    if lossy:
        worst = max(lossy, key=lambda stage: lossy[stage])
        site.reporter.say(f"half precision: largest error {lossy[worst]:.1e} of the root mean square, at boundary {worst}")
    return kept
