"""What a study will run, said before it runs: `--dry_run`."""

from fteng.backbones.flops import stage_flops
from fteng.study import Ground
from fteng.train.trial import steps_per_epoch


def bill(ground: Ground) -> str:
    """A table of the plans with their cost, and the sum.

    GFLOP an image: forward + 2 x suffix, the suffix being the stages behind the boundary; head and optimizer are left out.
    """
    train = len(ground.dataset.splits["train"])
    recipe = ground.config.train
    flops = stage_flops(ground.backbone, ground.weights, ground.config.data.image_size, recipe.batch_size).forward
    images = steps_per_epoch(train, recipe.batch_size) * min(recipe.batch_size, train) * recipe.epochs
    rows = list(dict.fromkeys((spec.plan, spec.variant) for spec in ground.specs))
    lines = [f"{'plan':<44} {'trials':>6} {'GFLOP/image':>12} {'TFLOP in all':>13}"]
    total = 0.0
    for plan, variant in rows:
        trials = sum((spec.plan, spec.variant) == (plan, variant) for spec in ground.specs)
        each = sum(flops[: len(plan.stages)]) + 2 * sum(flops[plan.boundary : len(plan.stages)])
        total += trials * images * each
        depth = f"freeze depth {plan.boundary}" if plan.freeze_depth is not None else f"only {'+'.join(plan.trainable_stages)}"
        only = "" if plan.leaves == "all" else f", {plan.leaves} only"
        way = f", {variant.label}" if variant.label else ""
        name = f"{depth} of {len(plan.stages)}, tap {plan.tap}{only}{way}"
        lines.append(f"{name:<44} {trials:>6} {each / 1e9:>12.3f} {trials * images * each / 1e12:>13.2f}")
    counts = {split: len(rows) for split, rows in ground.dataset.splits.items()}
    lines.append(f"{'sum':<44} {len(ground.specs):>6} {'':>12} {total / 1e12:>13.2f}")
    lines.append(
        f"{ground.dataset.name}: {counts['train']} train, {counts['val']} val, {counts['test']} test images of"
        f" {len(ground.dataset.classes)} classes; {images:,} images through each trial"
    )
    return "\n".join(lines)
