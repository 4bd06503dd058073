"""What a study will run and what that costs, said before it runs: `--dry_run`."""

from collections import Counter

from fteng.ground import Ground, flops_of
from fteng.paths import StudyPaths
from fteng.progress import Reporter
from fteng.study import lay_feed, make_site
from fteng.sweep.cost import predicted
from fteng.sweep.lanes import population_of
from fteng.sweep.memory import predicted_memory
from fteng.sweep.track import blank_starts, compile_at_once, lay_track


def bill(ground: Ground, study: StudyPaths, reporter: Reporter) -> str:
    """A table of the plans with their cost, and the sum.

    The steps are compiled and one of each is timed; the study finds them compiled. GFLOP/image: of a step by itself, as XLA counts
    it, its frozen prefix included; MiB: what trains, its optimizer, and what a step needs beside; seconds: of a trial's steps, its
    share of a recomputed prefix included. Probes, caches, evaluation and report come on top. Memory is told when all is compiled;
    a compiler that works for the first time may have needed more.
    """
    site = make_site(ground, study, lay_feed(ground), reporter, lambda: False)
    track, kept = lay_track(
        site, blank_starts(site, ground.specs), ground.specs, ground.specs, flops_of(ground, ground.specs), fill=False
    )
    compile_at_once(track, ground.specs)
    memory = predicted_memory(track, ground.specs, kept)
    reporter.close()
    recipe, length = ground.config.train, site.bench.length
    sharing = Counter(population_of(spec, recipe) for spec in ground.specs)
    images = length.steps * length.batch
    lines = [f"{'plan':<44} {'trials':>6} {'GFLOP/image':>12} {'MiB':>8} {'s/trial':>9} {'s in all':>9}"]
    sums = [0.0, 0.0]
    for plan, variant in dict.fromkeys((spec.plan, spec.variant) for spec in ground.specs):
        mine = [spec for spec in ground.specs if (spec.plan, spec.variant) == (plan, variant)]
        program = track.program(mine[0])
        each = (program.flops + program.prefix_flops) / length.batch
        seconds = predicted(track, mine[0], sharing[population_of(mine[0], recipe)]).steps
        mebibytes = (program.state_bytes + program.temporary_bytes) / 2**20
        sums = [sums[0] + len(mine) * images * each, sums[1] + len(mine) * seconds]
        depth = f"freeze depth {plan.boundary}" if plan.freeze_depth is not None else f"only {'+'.join(plan.trainable_stages)}"
        only = "" if plan.leaves == "all" else f", {plan.leaves} only"
        way = f", {variant.label}" if variant.label else ""
        name = f"{depth} of {len(plan.stages)}, tap {plan.tap}{only}{way}"
        lines.append(
            f"{name:<44} {len(mine):>6} {each / 1e9:>12.3f} {mebibytes:>8,.0f} {seconds:>9.1f} {len(mine) * seconds:>9,.0f}"
        )
    counts = {split: len(rows) for split, rows in ground.dataset.splits.items()}
    lines.append(f"{'sum':<44} {len(ground.specs):>6} {sums[0] / 1e12:>7.1f} TFLOP {'':>17} {sums[1]:>9,.0f}")
    lines.append(
        f"{ground.dataset.name}: {counts['train']} train, {counts['val']} val, {counts['test']} test images of"
        f" {len(ground.dataset.classes)} classes; {images:,} images through each trial"
    )
    lines.append(f"memory at the peak of the trials: about {memory}")
    if ground.config.sweep.search == "race":
        lines.append("sweep.search=race: what cannot win is stopped, so the sum is about the most it can take")
    return "\n".join(lines)
