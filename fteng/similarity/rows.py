"""Which images a method looks at: at most so many, every class by its share, whole folds by group. All draws are seeded."""

import numpy as np
from jaxtyping import Int, Shaped

from fteng.similarity.undefined import UndefinedError


def subsample(labels: Int[np.ndarray, "n"], most: int, seed: int) -> Int[np.ndarray, "k"]:
    """Rows, ascending: all of them up to `most`, else every class by its share and at least one image of each."""
    n = len(labels)
    if n <= most:
        return np.arange(n)
    order = np.random.default_rng(seed).permutation(n)
    # Images in the order of their relative place in their class: any prefix then holds each class by its share.
    place = np.empty(n)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
        place[members[0]] = -1
    return np.sort(np.argsort(place, kind="stable")[:most])


def group_folds(labels: Int[np.ndarray, "n"], groups: Shaped[np.ndarray, "n"], folds: int, seed: int) -> list[Int[np.ndarray, "_"]]:
    """The rows of each fold; a group is in one, and each class is dealt to all in turn, largest groups first.

    Fewer folds where there are fewer groups. Raises UndefinedError with fewer than two groups.
    """
    names, member = np.unique(groups, return_inverse=True)
    folds = min(folds, len(names))
    if folds < 2:
        raise UndefinedError("cross-validation needs two groups of images")
    rng = np.random.default_rng(seed)
    # A group of several classes counts as one of its first.
    first = np.zeros(len(names), np.int64)
    first[member[::-1]] = labels[::-1]
    sizes = np.bincount(member)
    order = np.lexsort((rng.random(len(names)), -sizes, first))
    fold_of = np.empty(len(names), np.int64)
    fold_of[order] = np.arange(len(names)) % folds
    return [np.flatnonzero(fold_of[member] == fold) for fold in range(folds)]


def check_features(features: Shaped[np.ndarray, "n c"]) -> None:
    """Raises UndefinedError where no method can say anything: nothing there, not finite, or the same for every image."""
    if features.shape[0] < 2 or features.shape[1] < 1:
        raise UndefinedError(f"needs two images and a channel, got {features.shape[0]} and {features.shape[1]}")
    if not np.isfinite(features).all():
        raise UndefinedError("features of this stage are not finite")
    if not alive(features).any():
        raise UndefinedError("every channel of this stage is constant")


def check_classes(labels: Int[np.ndarray, "n"], least: int) -> None:
    """Raises UndefinedError with fewer than two classes, or fewer than `least` images in one that is there."""
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    if len(counts) < 2:
        raise UndefinedError("needs two classes")
    if counts.min() < least:
        raise UndefinedError(f"needs {least} images in each class, the smallest has {counts.min()}")


def alive(features: Shaped[np.ndarray, "n c"]) -> Shaped[np.ndarray, "c"]:
    """Which channels vary by more than rounding, (c,) bool."""
    wide = features.astype(np.float64)
    return wide.std(axis=0) > 1e-6 * (1e-6 + np.abs(wide).mean(axis=0))


def standardised(features: Shaped[np.ndarray, "n c"]) -> Shaped[np.ndarray, "n c"]:
    """float64 with mean 0 and variance 1 a channel; a constant channel is 0."""
    wide = features.astype(np.float64)
    centred, varies = wide - wide.mean(axis=0), alive(features)
    return np.where(varies, centred / np.where(varies, wide.std(axis=0), 1.0), 0.0)
