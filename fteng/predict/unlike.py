"""Whether an image is unlike what the model was trained on: how far its features lie from those of every class.

The distance is Mahalanobis', to the nearest class mean, under one covariance of all classes (Lee et al. 2018, "A simple unified
framework for detecting out-of-distribution samples"), shrunk as Ledoit and Wolf (2004) have it: there are often fewer images than
features. The limit comes from the validation images, which neither trained the network nor the covariance. Imports no jax.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import solve_triangular

# Of images like the validation images, so many in a hundred are called unlike.
SHARE = 0.01
# A feature that hardly moves in training still has a scale: this share of the average feature's.
_LEAST_SCALE = 0.01


class Limits(NamedTuple):
    """What training and validation images look like to the model.

    centre: (features,); whitening: (features, features), after which the classes' common covariance is the identity; means:
    (classes, features) of each class that has training images, whitened; limit: the distance beyond which an image is unlike;
    train, val: how many images these rest on. All float32.
    """

    centre: np.ndarray
    whitening: np.ndarray
    means: np.ndarray
    limit: float
    train: int
    val: int


def fit_limits(train: np.ndarray, labels: np.ndarray, val: np.ndarray) -> Limits:
    """train: (n, features) and their labels (n,); val: (m, features), m > 0."""
    # Takes a second, which only who fits should pay.
    from sklearn.covariance import ledoit_wolf

    features = train.astype(np.float64)
    found = np.unique(labels)
    means = np.stack([features[labels == label].mean(axis=0) for label in found])
    within = features - means[np.searchsorted(found, labels)]
    scale = within.std(axis=0)
    scale = np.maximum(scale, max(_LEAST_SCALE * float(scale.mean()), np.finfo(np.float32).tiny))
    covariance, _ = ledoit_wolf(within / scale, assume_centered=True)
    lower = np.linalg.cholesky(covariance)
    whitening = solve_triangular(lower, np.eye(len(lower)), lower=True).T / scale[:, None]
    centre = features.mean(axis=0)
    narrow = [array.astype(np.float32) for array in (centre, whitening, (means - centre) @ whitening)]
    limits = Limits(narrow[0], narrow[1], narrow[2], np.inf, len(train), len(val))
    return limits._replace(limit=_limit(distances(limits, val.astype(np.float32))))


def distances(limits: Limits, features: Any) -> Any:
    """(n,) of features (n, features), in deviations: to the nearest class. numpy arrays, or those of a device while it works."""
    white, means = (features - limits.centre) @ limits.whitening, limits.means
    squares = (white**2).sum(axis=1)[:, None] - 2 * (white @ means.T) + (means**2).sum(axis=1)
    # Rounding can leave less than nothing of a distance of zero.
    return abs(squares.min(axis=1)) ** 0.5


def _limit(of_val: np.ndarray) -> float:
    """The value that a new image of the same kind exceeds with a chance of at most SHARE; the largest, where there are too few to
    say more (Vovk et al. 2005, conformal prediction)."""
    rank = int(np.ceil((len(of_val) + 1) * (1 - SHARE)))
    return float(np.sort(of_val)[min(rank, len(of_val)) - 1])
