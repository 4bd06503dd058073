"""The probe of every tap: all L2 strengths fitted on train, the best chosen by folds of train, val and test answered once."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from fteng.analysis.drawn import group_folds
from fteng.analysis.metrics import evaluate
from fteng.data.prepare import Dataset
from fteng.probe.logistic import fit
from fteng.results import Predictions

# Half decades, over features with unit variance: from practically none to a constant answer.
STRENGTHS = np.logspace(-6, 1, 15)
FOLDS = 5


class Probe(NamedTuple):
    """strength: the chosen L2; left_out: its mean log loss of training images whose fold was left out, nan without folds; head:
    `kernel` (channels, classes) and `bias` (classes,) for raw features; predictions: of val and test; edge: the chosen strength
    is the last on the list, so a better one may lie beyond; gradient: how far from the optimum."""

    strength: float
    left_out: float
    head: dict[str, Float[np.ndarray, "..."]]
    predictions: dict[str, Predictions]
    edge: bool
    gradient: float


def fit_probe(features: Float[np.ndarray, "n channels"], dataset: Dataset, train: Int[np.ndarray, "_"] | None = None) -> Probe:
    """features: of one tap; train: rows to fit on (default: the split).

    The strength with the least log loss on images left out is chosen, by folds of the training images that cut no group; of
    equal ones the strongest. Not by val: there it would be picked, at every tap, for the very images that then compare probes
    with tuned networks, and be flattered by them (`python -m benchmarks.strength`).
    """
    train = dataset.splits["train"] if train is None else train
    labels = dataset.labels[train]
    solution = fit(features[train], labels, len(dataset.classes), STRENGTHS, _folds(labels, dataset.groups[train]))
    # What is no number is never the best; where none is one, as from a single image, the strongest.
    losses = np.where(np.isfinite(solution.left_out), solution.left_out, np.inf)
    best = len(losses) - 1 - int(np.argmin(losses[::-1]))
    head = {"kernel": solution.kernels[best], "bias": solution.biases[best]}
    predictions = {split: _answers(features, dataset, split, **head) for split in ("val", "test")}
    edge = best in (0, len(STRENGTHS) - 1)
    return Probe(float(STRENGTHS[best]), float(solution.left_out[best]), head, predictions, edge, float(solution.gradient[best]))


def _folds(labels: Int[np.ndarray, "n"], groups: Shaped[np.ndarray, "n"]) -> list[Int[np.ndarray, "_"]]:
    """Of one group alone, whose images are all there is to go by, the images are dealt."""
    whole = groups if len(np.unique(groups)) > 1 else np.arange(len(groups))
    return group_folds(labels, whole, FOLDS, seed=0) if len(whole) > 1 else []


def _answers(
    features: Float[np.ndarray, "n channels"],
    dataset: Dataset,
    split: str,
    kernel: Float[np.ndarray, "channels classes"],
    bias: Float[np.ndarray, "classes"],
) -> Predictions:
    rows = dataset.splits[split]
    return Predictions(dataset.ids[rows], dataset.groups[rows], dataset.labels[rows], features[rows] @ kernel + bias)


def record(tap: str, index: int, probe: Probe, flops_per_example: float, seconds: float) -> dict[str, Any]:
    """One entry of `probes/result.json`. flops_per_example: of the network up to the tap; seconds: to fit, and of
    the pass over the images up to the tap."""
    trained = sum(part.size for part in probe.head.values())
    cost = {"flops_per_example": flops_per_example, "seconds": seconds, "optimizer_bytes": 0, "trainable_parameters": trained}
    return {
        "tap": tap,
        "stage_index": index,
        "l2": probe.strength,
        "l2_at_edge": probe.edge,
        "left_out_log_loss": probe.left_out if np.isfinite(probe.left_out) else None,
        "relative_gradient": probe.gradient,
        "val": evaluate(probe.predictions["val"]),
        "test": evaluate(probe.predictions["test"]),
        "cost": cost,
    }


def choose_tap(rows: Sequence[Mapping[str, Any]]) -> str:
    """Which tap's classifier stands for all that tune nothing; rows: of `record`, in the network's order.

    The one with the least log loss on training images left out; of equal ones, and without folds, the last. Not by val: of many
    taps the luckiest would be compared with tuned networks there (`python -m benchmarks.strength`).
    """
    known = [row for row in reversed(rows) if row["left_out_log_loss"] is not None]
    return str(min(known, key=lambda row: row["left_out_log_loss"], default=rows[-1])["tap"])
