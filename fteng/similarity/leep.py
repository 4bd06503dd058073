"""LEEP and NLEEP: how well source classes, or clusters of features, predict the classes."""

import warnings

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.cluster.vq import kmeans2
from scipy.special import logsumexp

from fteng.similarity.distances import leading
from fteng.similarity.rows import check_classes, check_features
from fteng.undefined import UndefinedError

Labels = Int[np.ndarray, "n"]
NLEEP_ENERGY = 0.8
NLEEP_DIRECTIONS = 64
_CLUSTERS_A_CLASS = 5
_IMAGES_A_CLUSTER = 5
_STEPS = 50


def leep(memberships: Float[np.ndarray, "n z"], labels: Labels) -> float:
    """LEEP (Nguyen et al. 2020): mean log likelihood of the labels under P(class | source class), nats; at most 0.

    memberships: probabilities of source classes, rows sum to 1.
    """
    check_classes(labels, 1)
    joint = np.stack([memberships[labels == label].sum(axis=0) for label in range(labels.max() + 1)]) / len(labels)
    marginal = joint.sum(axis=0)
    conditional = np.divide(joint, marginal, out=np.zeros_like(joint), where=marginal > 0)
    likelihood = (memberships * conditional[labels]).sum(axis=1)
    return float(np.log(likelihood).mean())


def nleep(features: Shaped[np.ndarray, "n c"], labels: Labels) -> float:
    """NLEEP (Li et al. 2021): LEEP of a Gaussian mixture over principal components that hold 80 % of the variance.

    Five clusters a class, at most a fifth as many as images; independent directions, at most 64; seeded k-means, then at most
    50 steps of expectation and maximisation.
    """
    check_features(features)
    check_classes(labels, 1)
    wide = features.astype(np.float64)
    rotated = leading(wide - wide.mean(axis=0), NLEEP_DIRECTIONS)
    share = np.cumsum(rotated.var(axis=0)) / wide.var(axis=0).sum()
    kept = rotated[:, : int(np.searchsorted(share, NLEEP_ENERGY)) + 1]
    clusters = min(_CLUSTERS_A_CLASS * len(np.unique(labels)), len(labels) // _IMAGES_A_CLUSTER)
    if clusters < 2:
        raise UndefinedError(f"needs two clusters of {_IMAGES_A_CLUSTER} images")
    return leep(_mixture(kept, clusters), labels)


def _mixture(rows: Float[np.ndarray, "n d"], clusters: int) -> Float[np.ndarray, "n z"]:
    """Memberships under a mixture of normal distributions with independent directions (Dempster et al. 1977)."""
    scale = rows.std(axis=0).max()
    rows = rows / scale
    with warnings.catch_warnings():
        # A cluster without images begins, and stays, without weight.
        warnings.simplefilter("ignore", UserWarning)
        _, assigned = kmeans2(rows, clusters, minit="++", rng=np.random.default_rng(0), missing="warn")
    members = np.eye(clusters)[assigned]
    # Spread that k-means would call noise: keeps a cluster of one image from growing without bound.
    floor = 1e-3 * rows.var(axis=0).mean()
    before = -np.inf
    for _ in range(_STEPS):
        mass = members.sum(axis=0) + 1e-10
        means = members.T @ rows / mass[:, None]
        spread = np.maximum(members.T @ rows**2 / mass[:, None] - means**2, floor) + floor
        log = np.log(mass / len(rows)) - 0.5 * np.log(2 * np.pi * spread).sum(axis=1)
        log = log - 0.5 * (rows**2 @ (1 / spread).T - 2 * rows @ (means / spread).T + (means**2 / spread).sum(axis=1))
        norm = np.asarray(logsumexp(log, axis=1, keepdims=True))
        members = np.exp(log - norm)
        fit = float(norm.mean())
        if fit - before < 1e-4:
            break
        before = fit
    return members
