"""What a study stands on: weights, images, and the list of its trials."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import jax

from fteng.backbones.backbone import Backbone
from fteng.backbones.catalogue import check_size, load
from fteng.backbones.flops import StageFlops, stage_flops
from fteng.backbones.weights import Weights
from fteng.config import Config
from fteng.data.prepare import Dataset, prepare, read_records
from fteng.errors import UserError
from fteng.freeze import partition
from fteng.freeze.partition import Parameters
from fteng.freeze.plan import FreezePlan
from fteng.probe.features import output_widths
from fteng.probe.source_profile import Source, find_source
from fteng.progress import Reporter
from fteng.trials import TrialSpec, enumerate_trials, plans, study_context


class Ground(NamedTuple):
    """What the study stands on, read once."""

    config: Config
    backbone: Backbone
    weights: Weights
    source: Source
    dataset: Dataset
    specs: tuple[TrialSpec, ...]


def lay_ground(config: Config, reporter: Reporter) -> Ground:
    """Weights, images and the list of trials. Raises UserError."""
    # Before the weights, which may take a download: who has no images yet is told so at once.
    records = read_records(config.data)
    backbone, weights = load(config.backbone)
    if set(config.sweep.batch_norm) != {"keep"} and not jax.tree.leaves(weights.stats):
        raise UserError(
            f"sweep.batch_norm: got {', '.join(config.sweep.batch_norm)}, but {backbone.name} has no batch norm; allowed: keep"
        )
    check_size(backbone, weights, config.data.image_size)
    planned = plans(config, backbone.stages, backbone.groups)
    check_leaves(planned, backbone, weights)
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

    dataset = prepare(config.data, backbone.preprocess.resampling, on_image, records)
    context = study_context(
        config, weights_digest=weights.digest, data_digest=dataset.digest, preprocess=backbone.preprocess._asdict()
    )
    specs = tuple(enumerate_trials(config, planned, context))
    return Ground(config, backbone, weights, source, dataset, specs)


def check_leaves(planned: Iterable[FreezePlan], backbone: Backbone, weights: Weights, mend: str = "") -> None:
    """Raises UserError where a plan's stages have none of the leaves that shall train. mend: what the user can do,
    where it is not to leave them out of the config."""
    for plan in planned:
        mask = partition.trainable_mask(plan, Parameters(weights.params[: len(plan.stages)], {}))
        if any(plan.trains) and not any(jax.tree.leaves(mask.stages)):
            raise UserError(
                f"sweep.leaves: got {plan.leaves}, but {', '.join(plan.trainable_stages[:3])}"
                f"{', ...' * (len(plan.trainable_stages) > 3)} of {backbone.name} have none; {mend or f'leave {plan.leaves} out'}"
            )


def flops_of(ground: Ground, pending: Sequence[TrialSpec]) -> StageFlops:
    """Of each stage, its gradients where one of these trials needs them."""
    boundaries = {spec.plan.boundary for spec in pending if any(spec.plan.trains)}
    size, batch = ground.config.data.image_size, ground.config.train.batch_size
    return stage_flops(ground.backbone, ground.weights, size, batch, boundaries)
