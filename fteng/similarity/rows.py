"""Whether a method can say anything of these features and labels, and features on one scale."""

import numpy as np
from jaxtyping import Int, Shaped

from fteng.undefined import UndefinedError


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
