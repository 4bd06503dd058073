"""What every trial of a study will take, foreseen from its FLOPs and the pace of one forward pass: enough to share out work, before
anything is compiled. (`cost.predicted` measures a step, once there is one.)"""

from collections.abc import Mapping, Sequence

from fteng.backbones.flops import StageFlops
from fteng.entry import Entry, entry_of
from fteng.prefix.cache import make_layout
from fteng.prefix.walk import Walk
from fteng.sweep.track import Site
from fteng.train.start import Start
from fteng.train.step import step_flops
from fteng.trials import TrialSpec, TrialWork


def foresee(site: Site, starts: Mapping[str, Start], specs: Sequence[TrialSpec], flops: StageFlops) -> list[TrialWork]:
    """In the order of `specs`; the caches are taken to find room."""
    recipe, batch, stages = site.ground.config.train, site.bench.length.batch, len(site.ground.backbone.stages)
    some = next(iter(starts.values()))
    forward = Walk(site.ground.backbone, recipe, {Entry(stages)}, site.feed.mesh)
    seconds = forward.seconds(some, site.feed.take(site.ground.dataset.splits["train"][:batch]))[stages]
    of_a_flop = seconds / sum(flops.forward)
    layout = make_layout(site.ground.dataset, recipe)
    found = []
    for spec in specs:
        entry = entry_of(spec.plan, spec.variant, recipe)
        head = site.ground.backbone.channels[len(spec.plan.stages) - 1] * len(site.ground.dataset.classes)
        prefix = sum(flops.forward[: entry.stage])
        an_image = step_flops(spec.plan, entry, flops, head) + (0.0 if layout.views else prefix)
        taken = site.bench.length.steps * batch * an_image * of_a_flop
        shared = f"{spec.variant.start}/{entry.stage}{'-features' if entry.pooled else ''}"
        found.append(TrialWork(spec.id, shared, spec.seed, taken, layout.slots * prefix * of_a_flop))
    return found
