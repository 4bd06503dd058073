"""Our own prediction, before the sweep: which (tap, freeze depth), from the training images' features alone. Nothing is fitted
to earlier studies; the form and its constants are here and in the record."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from fteng.analysis.bootstrap import group_weights
from fteng.analysis.metrics import METRICS, resampled
from fteng.results import Predictions
from fteng.similarity.ridge import Gram, out_of_fold
from fteng.similarity.rows import check_classes
from fteng.undefined import UndefinedError

RESAMPLES = 400
# With fewer steps of training than FEW_STEPS no tuning is advised: a network that has begun to move needs some to come back, which
# no look at features foresees (in short schedules it ended at chance). Few images are no reason: a hundred, seen often enough, do.
FEW_STEPS = 100
FORM = (
    "Each plan is predicted by five-fold cross-validated ridge regression on at most 512 training images, no group in two folds."
    " A linear classifier on a tap: by that tap's linear kernel. Tuning from a depth on: by the better of two, the kernel of the"
    " boundary's features alone, and the mean kernel of all stages that the tuned part reads, as a network that is tuned a little"
    " behaves like a linear model in what its tuned layers read (a rough stand-in for its neural tangent kernel: pooled"
    " activations, gradients taken for alike). Advised is, of the depths that these images cannot tell from the one predicted best"
    f" (one-sided, 95 %), the one that tunes most; where the recipe makes fewer than {FEW_STEPS} steps, the classifier that"
    " folds of the training images choose."
)
EVIDENCE = (
    "The evidence is weak: the form was changed about seven times while looking at studies of 100 and 300 training images (digits,"
    " plain, coloured, filtered and merged; clothes; woven textile) on EfficientNet-Lite0, and its constant was read off them. In"
    " 12 small studies of such images run after that it lost 0.1 points in the median and 5.7 at worst; always tuning everything,"
    " in these and one in which ours said nothing, 0.1 and 17.5. Since they were seen folds choose the classifier of short"
    " schedules; validation did before, and it lost 0.2 and 6.0. The grading says whether it held here."
)


class AdvicePlan(NamedTuple):
    """tuned: stages behind the freeze depth train; else the plan is a linear classifier on the tap."""

    tap: str
    freeze_depth: int
    tuned: bool


class Predicted(NamedTuple):
    """ranking: plans, best first, each with predicted, low, high, best_share, equal; chosen: one of them; reason: why that."""

    ranking: list[dict[str, Any]]
    chosen: AdvicePlan
    reason: str


def every_plan(stages: Sequence[str]) -> list[AdvicePlan]:
    """A linear classifier on each tap, and tuning the network up to its last stage from each depth on."""
    probes = [AdvicePlan(stage, index + 1, False) for index, stage in enumerate(stages)]
    return probes + [AdvicePlan(stages[-1], depth, True) for depth in range(len(stages))]


def predict(
    stages: Sequence[str],
    grams: Sequence[Gram],
    labels: Int[np.ndarray, "n"],
    groups: Shaped[np.ndarray, "n"],
    folds: Sequence[Int[np.ndarray, "_"]],
    metric: str,
    steps: int,
    probe: str,
) -> Predicted:
    """grams: of `ridge.gram`, one a tap, of the images of `labels`; steps: of training, that the recipe makes; probe: the tap
    of the classifier that folds of the training images choose.

    Raises UndefinedError where no classifier can be judged.
    """
    check_classes(labels, 2)
    plans = every_plan(stages)
    points, draws = _scored(plans, grams, labels, groups, folds, metric)
    sign = 1 if METRICS[metric].higher_is_better else -1
    known = [index for index in range(len(plans)) if np.isfinite(points[index])]
    if {plans[index].tuned for index in known} != {True, False}:
        raise UndefinedError("no plan can be predicted: the metric is undefined, or the stages are constant")
    # A resample that lacks a class says nothing of any plan.
    draws = draws[:, np.isfinite(draws[known]).all(axis=0)]
    if draws.shape[1] < RESAMPLES // 2:
        raise UndefinedError("most resamples of the training images lack a class: too few images to judge a plan by")
    order = sorted(known, key=lambda index: -sign * points[index])
    tuned, probes = ([index for index in order if plans[index].tuned is kind] for kind in (True, False))

    def equal(index: int, best: int) -> bool:
        """Whether the images cannot tell the two: one-sided, 95 %."""
        return bool(np.quantile(sign * (draws[best] - draws[index]), 0.05) <= 0)

    gain = sign * (points[tuned[0]] - points[probes[0]])
    if steps < FEW_STEPS:
        chosen = plans[list(stages).index(probe)]
        reason = (
            f"tuning promises {100 * gain:+.1f} points against the best classifier, but in {steps} steps of training, fewer than"
            f" {FEW_STEPS}, it may not get there; ask again with more epochs"
        )
    else:
        level = [plans[index].freeze_depth for index in tuned if equal(index, tuned[0])]
        chosen = AdvicePlan(stages[-1], min(level), True)
        best = plans[tuned[0]].freeze_depth
        reason = (
            f"the images cannot tell apart {len(level)} of the depths from {min(level)} to {max(level)}, and of these it tunes most"
            if len(level) > 1
            else f"of depth {best} the images promise more than of any other"
        )
    won = np.bincount(np.argmax(sign * draws[known], axis=0), minlength=len(known)) / draws.shape[1]
    share = dict(zip(known, won.tolist(), strict=True))
    ranking = [
        {
            **plans[index]._asdict(),
            "predicted": float(points[index]),
            "low": float(np.quantile(draws[index], 0.025)),
            "high": float(np.quantile(draws[index], 0.975)),
            "best_share": share[index],
            "equal": equal(index, order[0]),
        }
        for index in order
    ]
    return Predicted(ranking, chosen, reason)


def _scored(
    plans: Sequence[AdvicePlan],
    grams: Sequence[Gram],
    labels: Int[np.ndarray, "n"],
    groups: Shaped[np.ndarray, "n"],
    folds: Sequence[Int[np.ndarray, "_"]],
    metric: str,
) -> tuple[Float[np.ndarray, "p"], Float[np.ndarray, "p r"]]:
    """The metric out of fold, and on resamples of groups, the same for all plans; nan = undefined."""
    weights = group_weights(groups, RESAMPLES, seed=0)
    sign, ones = 1 if METRICS[metric].higher_is_better else -1, np.ones((1, len(labels)))
    points, draws = np.full(len(plans), np.nan), np.full((len(plans), RESAMPLES), np.nan)
    # What comes out of the last frozen stage, and of every later one too; from depth 0, the images, as from depth 1.
    ats = [max(plan.freeze_depth, 1) - 1 for plan in plans]
    reads = [[(at, at + 1), (at, len(grams))] if plan.tuned else [(at, at + 1)] for at, plan in zip(ats, plans, strict=True)]
    distinct = sorted({pair for pairs in reads for pair in pairs})
    with ThreadPoolExecutor() as pool:
        answers = dict(zip(distinct, pool.map(lambda pair: _answers(grams[slice(*pair)], labels, folds), distinct), strict=True))
    scored: dict[tuple[int, int], tuple[float, np.ndarray]] = {}
    for pair, logits in answers.items():
        if logits is not None:
            predictions = Predictions(np.arange(len(labels)), groups, labels, logits)
            scored[pair] = float(resampled(metric, predictions, ones)[0]), resampled(metric, predictions, weights)
    for index, pairs in enumerate(reads):
        for point, drawn in [scored[pair] for pair in pairs if pair in scored and np.isfinite(scored[pair][0])]:
            if not sign * point <= sign * points[index]:
                points[index], draws[index] = point, drawn
    return points, draws


def _answers(
    grams: Sequence[Gram], labels: Int[np.ndarray, "n"], folds: Sequence[Int[np.ndarray, "_"]]
) -> Float[np.ndarray, "n k"] | None:
    alive = [each for each in grams if each.any()]
    if not alive:
        return None
    # A regression on indicators is a share, not a logit; of two classes and of the likeliest one the order is the same.
    return 10 * out_of_fold(np.mean(alive, axis=0), labels, folds)
