"""Everything that is measured of one stage, and of neighbours, on the training images."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from fteng.analysis.drawn import group_folds, subsample
from fteng.analysis.metrics import METRICS
from fteng.similarity import leep, scores
from fteng.similarity.classes import nearest_mean, scatter, silhouette
from fteng.similarity.distances import debiased_cka, linear_cka
from fteng.similarity.ridge import Gram, gram, out_of_fold
from fteng.undefined import UndefinedError, stated

# Images that methods linear in their number look at, and those that compare pairs.
MOST = 2000
MOST_PAIRS = 512
FOLDS = 5

Measure = Callable[[], float]


class Score(NamedTuple):
    """label: for people; source: who defined it."""

    label: str
    source: str


# Those that a stage has; LEEP is of the whole network and RGN comes with a gradient.
SCORES = {
    "logme": Score("LogME", "You et al. 2021"),
    "h_score": Score("H-score, shrunk", "Ibrahim et al. 2022"),
    "gbc": Score("GBC", "Pandy et al. 2022"),
    "transrate": Score("TransRate", "Huang et al. 2022"),
    "nleep": Score("NLEEP", "Li et al. 2021"),
    "parc": Score("PARC", "Bolya et al. 2021"),
    "cross_validated": Score("cross-validated ridge classifier", "five folds that cut no group"),
}


class Chosen(NamedTuple):
    """The training images that are looked at: rows of the data set, their labels and groups, and folds into which they fall."""

    rows: Int[np.ndarray, "n"]
    labels: Int[np.ndarray, "n"]
    groups: Shaped[np.ndarray, "n"]
    folds: list[Int[np.ndarray, "_"]]


def choose(labels: Int[np.ndarray, "n"], groups: Shaped[np.ndarray, "n"], train: Int[np.ndarray, "_"], most: int) -> Chosen:
    """At most so many training images, each class by its share. Folds are empty where there are too few groups."""
    rows = train[subsample(labels[train], most, seed=0)]
    try:
        folds = group_folds(labels[rows], groups[rows], FOLDS, seed=0)
    except UndefinedError:
        folds = []
    return Chosen(rows, labels[rows], groups[rows], folds)


class Measured(NamedTuple):
    """One entry a stage: scores, spread of the classes, alignment with the labels and with the next stage; and the kernels."""

    scores: list[dict[str, Any]]
    classes: list[dict[str, Any]]
    alignment: list[dict[str, Any]]
    grams: list[Gram]


def measure(taps: Sequence[Shaped[np.ndarray, "all _"]], many: Chosen, few: Chosen, metric: str) -> Measured:
    """many: for methods linear in the number of images; few: for those that compare pairs; metric: of the classifiers."""
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(partial(_one_stage, many=many, few=few, metric=metric), taps))
        following = [*taps[1:], None]
        kernels = [each[2] for each in found]
        rows = list(pool.map(partial(_alignment, many=many, few=few), taps, following, kernels, [*kernels[1:], None]))
    return Measured([each[0] for each in found], [each[1] for each in found], rows, kernels)


def judged_by(metric: str) -> str:
    """The metric of answers that are shares of indicators, as ridge regression gives them: log loss, for one, they have not."""
    return "accuracy" if metric == "log_loss" else metric


def judged(metric: str, labels: Int[np.ndarray, "n"], answers: Shaped[np.ndarray, "n k"]) -> float:
    """`judged_by` that metric. Raises UndefinedError where it has no value."""
    value = METRICS[judged_by(metric)].function(labels, answers)
    if not np.isfinite(value):
        raise UndefinedError("the metric is undefined on these images")
    return value


def _one_stage(
    tap: Shaped[np.ndarray, "all _"], many: Chosen, few: Chosen, metric: str
) -> tuple[dict[str, Any], dict[str, Any], Gram]:
    wide, small = tap[many.rows], tap[few.rows]
    finite = bool(np.isfinite(small).all())
    kernel = gram(small) if finite else np.zeros((len(small), len(small)))

    def classifier() -> float:
        if not finite:
            raise UndefinedError("features of this stage are not finite")
        _needs_folds(few)
        return judged(metric, few.labels, out_of_fold(kernel, few.labels, few.folds))

    def nearest() -> float:
        _needs_folds(many)
        answers = nearest_mean(wide, many.labels, many.folds)
        return float(np.mean([(answers == label)[many.labels == label].mean() for label in np.unique(many.labels)]))

    of_scores: dict[str, Measure] = {
        "logme": lambda: scores.logme(wide, many.labels),
        "h_score": lambda: scores.h_score(wide, many.labels),
        "gbc": lambda: scores.gbc(wide, many.labels),
        "transrate": lambda: scores.transrate(wide, many.labels),
        "nleep": lambda: leep.nleep(wide, many.labels),
        "parc": lambda: scores.parc(small, few.labels),
        "cross_validated": classifier,
    }
    of_classes: dict[str, Measure] = {
        "within_share": lambda: scatter(wide, many.labels),
        "nearest_mean": nearest,
        "silhouette": lambda: silhouette(small, few.labels),
    }
    named = [{name: stated(compute) for name, compute in group.items()} for group in (of_scores, of_classes)]
    return named[0], named[1], kernel


def _alignment(
    tap: Shaped[np.ndarray, "all _"],
    following: Shaped[np.ndarray, "all _"] | None,
    kernel: Gram,
    next_kernel: Gram | None,
    many: Chosen,
    few: Chosen,
) -> dict[str, Any]:
    """CKA with the labels and with the next stage, plain on many images and debiased on few."""
    classes = np.eye(int(few.labels.max()) + 1)
    last = {"value": None, "reason": "there is no next stage"}
    found = {
        "labels": stated(lambda: linear_cka(tap[many.rows], classes[many.labels])),
        "labels_debiased": stated(lambda: debiased_cka(kernel, classes[few.labels] @ classes[few.labels].T)),
        "next": last,
        "next_debiased": last,
    }
    if following is not None and next_kernel is not None:
        found["next"] = stated(lambda: linear_cka(tap[many.rows], following[many.rows]))
        found["next_debiased"] = stated(lambda: debiased_cka(kernel, next_kernel))
    return found


def _needs_folds(chosen: Chosen) -> None:
    if not chosen.folds:
        raise UndefinedError("cross-validation needs two groups of images")
