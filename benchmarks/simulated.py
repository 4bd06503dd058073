"""Data whose truth is known, which `benchmarks.alarms` and the tests hold the statistics against: patients with one to five images
each, whose scores have a known AUC; and features of images, in groups of four, from a population whose moments are known."""

import functools
from collections.abc import Sequence

import numpy as np
from scipy import stats

from fteng.analysis.bootstrap import group_weights
from fteng.analysis.recommend import Candidate
from fteng.results import Predictions
from fteng.similarity.layers import Known

# Of a channel's values: what a network's activations may look like.
SHAPES = {"normal": lambda x: x, "relu": lambda x: np.maximum(x, 0), "skewed": lambda x: np.exp(x / 5)}


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


def candidate_at(depth: int, val: list[Predictions]) -> Candidate:
    """The plan that freezes so many of four stages."""
    return Candidate(f"freeze depth {depth}", "block3", depth, 4 - depth, 10.0, val, val)


def study_of(
    aucs: Sequence[float], patients: int, seed: int = 0, seeds: int = 1, luck: float = 0.0, common: float = 0.6
) -> tuple[list[Candidate], np.ndarray]:
    """Freeze depths 0, 1, ... with these AUCs, and weights of 400 resamples."""
    depths = draw(np.random.default_rng(seed), patients, list(aucs), seeds, luck, common)
    return [candidate_at(*pair) for pair in enumerate(depths)], group_weights(depths[0][0].groups, 400, seed=seed)


def images(seed: int, n: int, stages: int = 3, channels: int = 12, shape: str = "relu") -> list[np.ndarray]:
    """(n, channels) a stage: correlated over channels, stages and the images of a group."""
    rng = np.random.default_rng(seed)
    latent = 0.7 * np.repeat(rng.standard_normal((n // 4, 6)), 4, axis=0) + 0.7 * rng.standard_normal((n, 6))
    mixing = [np.random.default_rng(100 + stage).standard_normal((6, channels)) for stage in range(stages)]
    return [SHAPES[shape](latent @ mix + rng.standard_normal((n, channels))) for mix in mixing]


def known(features: np.ndarray, source_mean: np.ndarray, source_var: np.ndarray, parts: int) -> Known:
    """A stage whose pass kept so many parts."""
    split = features.reshape(parts, -1, features.shape[1])
    return Known(source_mean, source_var, features.mean(axis=0), features.var(axis=0), split.mean(axis=1), split.var(axis=1))


@functools.cache
def source(shape: str = "relu") -> list[tuple[np.ndarray, np.ndarray]]:
    """(mean, variance) a stage of 200,000 images, in place of the population's."""
    return [(x.mean(axis=0), x.var(axis=0)) for x in images(999, 200_000, shape=shape)]
