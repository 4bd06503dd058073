"""Which images a method looks at: at most so many, every class by its share, whole folds by group. All draws are seeded."""

import numpy as np
from jaxtyping import Int, Shaped

from fteng.undefined import UndefinedError


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
