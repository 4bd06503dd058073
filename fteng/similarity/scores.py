"""Published transferability scores of one stage: how well its features would serve the classes. Larger is better in each."""

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import linalg
from scipy.interpolate import CubicSpline
from scipy.stats import rankdata

from fteng.similarity.distances import leading, ledoit_wolf
from fteng.similarity.rows import check_classes, check_features
from fteng.undefined import UndefinedError

Features = Shaped[np.ndarray, "n c"]
Labels = Int[np.ndarray, "n"]
GBC_DIRECTIONS = 64
_TRANSRATE_EPSILON = 1e-4
# Ratios of prior to noise precision at which the evidence is reckoned, in mean squares of a feature direction.
_RATIOS = np.logspace(-8, 4, 31)


def logme(features: Features, labels: Labels) -> float:
    """LogME (You et al. 2021): the largest log evidence an image of a linear Gaussian model of each class's indicator, averaged.

    Maximised over both precisions: the noise in closed form, the ratio on a grid with a spline between its points, where the
    authors iterate to a fixed point. Features as they are, no intercept, as published.
    """
    check_features(features)
    check_classes(labels, 1)
    wide = features.astype(np.float64)
    n, channels = wide.shape
    targets = _one_hot(labels)
    # (I + F F' / t) by whichever side is smaller.
    small = wide.T @ wide if channels <= n else wide @ wide.T
    scale = float(np.trace(small)) / len(small)
    projected = wide.T @ targets if channels <= n else targets
    total = (targets**2).sum(axis=0)
    evidence = np.empty((len(_RATIOS), targets.shape[1]))
    for row, ratio in enumerate(_RATIOS * scale):
        factor = linalg.cho_factor(small + ratio * np.eye(len(small)), lower=True, check_finite=False)
        solved = linalg.cho_solve(factor, projected, check_finite=False)
        quadratic = (projected * solved).sum(axis=0)
        rest = total - quadratic if channels <= n else ratio * quadratic
        log_determinant = 2 * np.log(np.diag(factor[0])).sum() - len(small) * np.log(ratio)
        if n > channels and (rest <= 1e-6 * total).any():
            raise UndefinedError("the features give a class without any error: the evidence has no bound")
        # The best noise precision of a ratio is n / rest.
        evidence[row] = 0.5 * (n * np.log(n / (2 * np.pi * np.maximum(rest, 1e-300))) - n - log_determinant)
    between = np.linspace(np.log(_RATIOS[0]), np.log(_RATIOS[-1]), 3001)
    return float((CubicSpline(np.log(_RATIOS), evidence)(between).max(axis=0) / n).mean())


def h_score(features: Features, labels: Labels) -> float:
    """Shrunk H-score (Ibrahim et al. 2022): (1 - a) tr(S_a^-1 S_between), S_a the Ledoit-Wolf covariance and a its share."""
    check_features(features)
    check_classes(labels, 1)
    shrunk, share = ledoit_wolf(features)
    means = _class_means(features, labels)
    solved = linalg.solve(shrunk, means.T, assume_a="pos", check_finite=False)
    weight = np.bincount(labels)
    return float((1 - share) * ((means * solved.T).sum(axis=1) * weight[weight > 0] / len(labels)).sum())


def gbc(features: Features, labels: Labels) -> float:
    """GBC (Pandy et al. 2022): minus the sum over ordered pairs of classes of exp(-Bhattacharyya distance), normal distributions
    with independent directions, after PCA to 64. A direction without spread in a class gets 1e-6 of its spread over all."""
    check_features(features)
    check_classes(labels, 2)
    rotated = leading(_centred(features), GBC_DIRECTIONS)
    rotated = rotated[:, rotated.var(axis=0) > 1e-12 * rotated.var(axis=0).max()]
    floor = 1e-6 * rotated.var(axis=0)
    present = np.unique(labels)
    means = np.stack([rotated[labels == label].mean(axis=0) for label in present])
    spread = np.stack([np.maximum(rotated[labels == label].var(axis=0), floor) for label in present])
    total = 0.0
    for mean, var in zip(means, spread, strict=True):
        both = (var + spread) / 2
        distance = ((mean - means) ** 2 / both).sum(axis=1) / 8
        distance += 0.5 * (np.log(both) - (np.log(var) + np.log(spread)) / 2).sum(axis=1)
        total += float(np.exp(-distance).sum()) - 1
    return -total


def transrate(features: Features, labels: Labels) -> float:
    """TransRate (Huang et al. 2022): the coding rate of the centred features less its mean over classes by share, e = 1e-4."""
    check_features(features)
    check_classes(labels, 1)
    centred = _centred(features)
    within = sum((labels == label).mean() * _coding_rate(centred[labels == label]) for label in np.unique(labels))
    return _coding_rate(centred) - float(within)


def parc(features: Features, labels: Labels) -> float:
    """PARC (Bolya et al. 2021): 100 times Spearman's correlation, over pairs of images, of how unlike their features are and how
    unlike their labels, each 1 - Pearson's correlation. Without the PCA that its authors put before every score: its signs, which
    are arbitrary, would change the value."""
    check_features(features)
    check_classes(labels, 1)
    if len(labels) < 4:
        raise UndefinedError("needs four images")
    if np.bincount(labels).max() < 2:
        raise UndefinedError("one image a class: every pair of images is equally unlike")
    wide = features.astype(np.float64)
    if wide.shape[1] < 2 or (wide.std(axis=1) <= 0).any():
        raise UndefinedError("an image has the same value in every channel: no correlation with others")
    pairs = np.tril_indices(len(labels), -1)
    apart = rankdata(1 - np.asarray(np.corrcoef(wide))[pairs])
    # Two images of one class are alike, all others equally unlike: as ranks, what correlations of one-hot rows come to.
    unlike = rankdata((labels[:, None] != labels[None, :])[pairs])
    return 100 * float(np.corrcoef(apart, unlike)[0, 1])


def _coding_rate(rows: Float[np.ndarray, "n c"]) -> float:
    n, channels = rows.shape
    small = rows.T @ rows if channels <= n else rows @ rows.T
    factor = linalg.cholesky(np.eye(len(small)) + small / (n * _TRANSRATE_EPSILON), lower=True, check_finite=False)
    return float(np.log(np.diag(factor)).sum())


def _one_hot(labels: Labels) -> Float[np.ndarray, "n k"]:
    """Columns of classes that are there."""
    return (labels[:, None] == np.unique(labels)[None, :]).astype(np.float64)


def _centred(features: Features) -> Float[np.ndarray, "n c"]:
    return features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)


def _class_means(features: Features, labels: Labels) -> Float[np.ndarray, "k c"]:
    """Of centred features, classes that are there."""
    one_hot = _one_hot(labels)
    return one_hot.T @ _centred(features) / one_hot.sum(axis=0)[:, None]
