"""Before any training: one pass over the images, a linear classifier a tap, the profile, and how similar the data are."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fteng import paths
from fteng.analysis.metrics import deciding_metric
from fteng.config import Config
from fteng.errors import Interrupted
from fteng.feed import Feed
from fteng.ground import Ground
from fteng.probe import probe
from fteng.probe.features import Features, extract
from fteng.probe.gradient import gradient_to_weight
from fteng.results import Predictions, write_predictions
from fteng.similarity.against_source import SourceMoments, profile
from fteng.similarity.assess import Surveyed, assess
from fteng.similarity.learning import Rows
from fteng.similarity.task import source_answers
from fteng.sweep.track import Site
from fteng.train.batches import length_of

_FEWEST_BATCHES = 8


def survey(site: Site, flops: Sequence[float]) -> None:
    """One pass, then a linear classifier a tap, and what can be said before a sweep; written last: result.json. flops: of each
    stage's forward pass."""
    ground, study, reporter = site.ground, site.study, site.reporter
    reporter.phase("features", len(ground.dataset.labels))
    # A test of difference needs several whole batches.
    size = min(ground.config.train.batch_size, max(1, len(ground.dataset.splits["train"]) // _FEWEST_BATCHES))

    def on_images(count: int) -> None:
        reporter.advance(count)
        if site.bench.should_stop():
            raise Interrupted("in the midst of the probes' pass, which begins anew")

    began = time.perf_counter()
    features = extract(ground.backbone, ground.weights, ground.dataset, site.feed, size, on_images)
    pass_seconds = time.perf_counter() - began
    reporter.phase("probes", len(features.taps))
    rows, heads = [], {}
    study.probes.mkdir(parents=True, exist_ok=True)
    for index, (stage, values) in enumerate(zip(ground.backbone.stages, features.taps, strict=True)):
        started = time.perf_counter()
        found = probe.fit_probe(values, ground.dataset)
        seconds = time.perf_counter() - started
        write_predictions(study.probe(stage), found.predictions)
        heads |= {f"{stage}/{name}": values for name, values in found.head.items()}
        # The network up to the tap is paid for too, by its share of the pass.
        share = sum(flops[: index + 1]) / sum(flops)
        rows.append(probe.record(stage, index, found, sum(flops[: index + 1]), seconds + share * pass_seconds))
        reporter.advance(1, stage)
    paths.write_by(study.heads("pretrained"), lambda path: np.savez(path, **heads))
    last = {name: heads[f"{ground.backbone.stages[-1]}/{name}"] for name in ("kernel", "bias")}
    ratios = _gradients(ground, site.feed, last, size)
    chosen = probe.choose_tap(rows)
    similar = _similarity(ground, features, rows, chosen, ratios)
    paths.write_json(study.similarity, similar)
    found = {"probes": rows, "chosen": chosen, "profile": profile(similar["profile"])}
    paths.write_json(study.surveyed, found | {"asked": asked_of(ground.config)})


def asked_of(config: Config) -> dict[str, Any]:
    """What of the judge's keys, which may change in a study, the survey's records hang on."""
    judge = config.judge
    return {"metric": judge.metric, "gradient_images": judge.gradient_images, "task": judge.task, "pictures": judge.pictures}


def _gradients(ground: Ground, feed: Feed, head: dict[str, np.ndarray], size: int) -> list[float] | None:
    images = ground.config.judge.gradient_images
    if not images:
        return None
    return gradient_to_weight(ground.backbone, ground.weights, head, ground.dataset, feed, images, size)


def _similarity(
    ground: Ground, features: Features, probes: Sequence[dict[str, Any]], chosen: str, ratios: Sequence[float] | None
) -> dict[str, Any]:
    """What can be said before the sweep, from what the pass has left."""
    dataset, classes = ground.dataset, ground.dataset.classes
    known, parts = ground.source, [ground.source.seen(part) for part in features.parts]
    source = SourceMoments(known.kind, known.moments, known.seen(features.moments), parts)
    head = ground.weights.source_head
    logits = None if head is None else source_answers(features.taps[-1], np.asarray(head["kernel"]), np.asarray(head["bias"]))
    seen = Rows(dataset.labels, dataset.groups, dataset.ids, dataset.splits)
    metric = deciding_metric(ground.config.judge.metric, len(classes))
    pictures = dataset.images if ground.config.judge.pictures else None
    steps = length_of(ground.config.train, len(dataset.splits["train"])).steps
    task = ground.config.judge.task
    surveyed = Surveyed(ground.backbone.stages, features.taps, seen, classes, pictures, metric, probes, chosen, steps, task)

    def fit(values: np.ndarray, train: np.ndarray) -> Mapping[str, Predictions]:
        return probe.fit_probe(values, dataset, train).predictions

    return assess(surveyed, source, logits, ratios, fit)
