"""The classes as each stage sees them, and as the source head does."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.special import log_softmax

from fteng.similarity.distances import squared_distances
from fteng.similarity.rows import check_classes, check_features
from fteng.undefined import UndefinedError

Features = Shaped[np.ndarray, "n c"]
Labels = Int[np.ndarray, "n"]
SHOWN_CLASSES = 8
_EXAMPLES = 3


class SourceAnswers(NamedTuple):
    """What the source head says. classes: the source classes it sees most, each with its share of all images (by probability),
    its share in each class of the data, and up to three rows of the images that are most like it; entropy: mean over images of
    an answer's entropy, over the largest possible: 0 = sure of one source class each, 1 = no idea."""

    classes: list[dict[str, Any]]
    entropy: float


def scatter(features: Features, labels: Labels) -> float:
    """Within-class over total scatter, the traces of the covariances (Fisher): 0 = classes are points, 1 = classes lie on each
    other."""
    check_features(features)
    check_classes(labels, 1)
    if np.bincount(labels).max() < 2:
        raise UndefinedError("one image a class: nothing can scatter within")
    wide = features.astype(np.float64)
    one_hot = np.eye(labels.max() + 1)[labels]
    means = one_hot.T @ wide / np.maximum(one_hot.sum(axis=0), 1)[:, None]
    return float(((wide - means[labels]) ** 2).sum() / ((wide - wide.mean(axis=0)) ** 2).sum())


def nearest_mean(features: Features, labels: Labels, folds: Sequence[Int[np.ndarray, "_"]]) -> Int[np.ndarray, "n"]:
    """The class whose mean over the other folds is nearest to each image (Mensink et al. 2013, Euclidean), (n,)."""
    check_features(features)
    check_classes(labels, 2)
    wide, answers = features.astype(np.float64), np.empty_like(labels)
    for rows in folds:
        left = np.ones(len(labels), bool)
        left[rows] = False
        present = np.unique(labels[left])
        means = np.stack([wide[left & (labels == label)].mean(axis=0) for label in present])
        answers[rows] = present[squared_distances(wide[rows], means).argmin(axis=1)]
    return answers


def silhouette(features: Features, labels: Labels) -> float:
    """Mean silhouette (Rousseeuw 1987), Euclidean: 1 = far from other classes, 0 = between, below = nearer to another class.

    An image alone in its class counts 0, as published.
    """
    check_features(features)
    check_classes(labels, 1)
    if np.bincount(labels).max() < 2:
        raise UndefinedError("one image a class: nothing to be near to")
    distances = np.sqrt(squared_distances(features, features))
    np.fill_diagonal(distances, 0.0)
    present, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sums = distances @ np.eye(len(present))[inverse]
    rows = np.arange(len(labels))
    own = counts[inverse]
    inside = sums[rows, inverse] / np.maximum(own - 1, 1)
    others = sums / counts
    others[rows, inverse] = np.inf
    outside = others.min(axis=1)
    largest = np.maximum(inside, outside)
    values = np.divide(outside - inside, largest, out=np.zeros(len(labels)), where=(largest > 0) & (own > 1))
    return float(values.mean())


def seen_classes(logits: Float[np.ndarray, "n z"], labels: Labels, names: Sequence[str], classes: Sequence[str]) -> SourceAnswers:
    """logits: of the source head; names: of its classes; classes: of the data."""
    logs = log_softmax(logits.astype(np.float64), axis=1)
    probabilities = np.exp(logs)
    share = probabilities.mean(axis=0)
    present = [(label, name) for label, name in enumerate(classes) if (labels == label).any()]
    rows = []
    for index in np.argsort(-share)[:SHOWN_CLASSES].tolist():
        row = {"index": index, "name": names[index], "share": float(share[index])}
        row["by_class"] = {name: float(probabilities[labels == label, index].mean()) for label, name in present}
        row["rows"] = np.argsort(-probabilities[:, index])[:_EXAMPLES].tolist()
        rows.append(row)
    entropy = -(probabilities * logs).sum(axis=1).mean() / np.log(logits.shape[1])
    return SourceAnswers(rows, float(entropy))


def label_entropy(labels: Labels) -> float:
    """Of the class shares, nats."""
    share = np.bincount(labels) / len(labels)
    return float(-(share[share > 0] * np.log(share[share > 0])).sum())
