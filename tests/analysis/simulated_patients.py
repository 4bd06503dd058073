"""Patients with one to five images each, whose scores have a known AUC: what intervals and tests are checked against."""

import numpy as np
from scipy import stats

from fteng.results import Predictions


def draw(
    rng: np.random.Generator, patients: int, aucs: list[float], seeds: int = 1, luck: float = 0.0, common: float = 0.6
) -> list[list[Predictions]]:
    """For each AUC a depth of so many seeds, all on the same images.

    Half of a score's variance is the patient's; a share `common` of it is the same for all depths; `luck` moves a seed's skill.
    """
    groups = np.repeat(np.arange(patients), rng.integers(1, 6, patients))
    risk = rng.beta(0.6, 1.4, patients)
    labels = (rng.random(len(groups)) < risk[groups]).astype(np.int64)

    def noise() -> np.ndarray:
        return np.sqrt(0.5) * rng.normal(size=patients)[groups] + np.sqrt(0.5) * rng.normal(size=len(groups))

    shared, depths = noise(), []
    for auc in aucs:
        own, skill = noise(), stats.norm.ppf(auc) * np.sqrt(2)
        scores = [
            (skill + luck * rng.normal()) * labels + np.sqrt(common) * shared + np.sqrt(1 - common) * own for _ in range(seeds)
        ]
        depths.append([as_predictions(labels, score, groups) for score in scores])
    return depths


def as_predictions(labels: np.ndarray, score: np.ndarray, groups: np.ndarray | None = None) -> Predictions:
    """Two classes; score: (n,) log odds of class 1; groups: one an image by default."""
    ids = np.arange(len(labels)).astype(str)
    logits = np.stack([-score / 2, score / 2], axis=1).astype(np.float32)
    return Predictions(ids, ids if groups is None else groups.astype(str), np.asarray(labels), logits)
