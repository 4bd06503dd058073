"""Models of different studies against each other: paired where they answer the same images, else as two independent samples."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fteng.analysis.bootstrap import informative_groups, split_weights
from fteng.analysis.compare import Scores, difference_of, holm, scores, training_luck
from fteng.results import Predictions


class Answered(NamedTuple):
    """What a study recommends, on its test images.

    seeds: its answers, one a seed; images: equal for two models only if they answer the same images in the same order;
    classes: equal only if they answer the same question.
    """

    seeds: Sequence[Predictions]
    images: str
    classes: tuple[str, ...]


def every_couple(models: Sequence[Answered], metric: str, resamples: int, confidence: float) -> list[dict[str, Any]]:
    """Each pair of models once: first, second (positions), how, difference (first less second), low, high, p and p_holm.

    how: `paired` on the same images, which are resampled together (cluster bootstrap over groups); `unpaired` on other images
    of the same classes, each sample drawn for itself, by Student's t with the smaller of both degrees of freedom, which never
    rejects too often (Hsu 1938); `other classes` and `no score` are not compared. p_holm is corrected over all pairs that were
    tested (Holm 1979). Where two samples share some images an unpaired interval is rather too wide:
    what is hard for one model tends to be hard for the other. None = undefined; intervals are not corrected.
    """
    found = [_scored(model, metric, resamples) for model in models]
    units = [informative_groups(model.seeds[0], metric) if model.seeds else 0 for model in models]
    rows: list[dict[str, Any]] = []
    for a, b in itertools.combinations(range(len(models)), 2):
        one, other, how = found[a], found[b], _how(models[a], models[b])
        row: dict[str, Any] = {"first": a, "second": b, "how": how if one and other else "no score"}
        rows.append(row | dict.fromkeys(("difference", "low", "high", "p", "p_holm")))
        if one and other and how != "other classes":
            luck = training_luck([one, other])
            told = difference_of(one, other, luck, min(units[a], units[b]), confidence)
            rows[-1] |= {name: float(value) if np.isfinite(value) else None for name, value in told._asdict().items()}
    corrected = holm([np.nan if row["p"] is None else row["p"] for row in rows])
    return [row | {"p_holm": p if np.isfinite(p) else None} for row, p in zip(rows, corrected, strict=True)]


def _scored(model: Answered, metric: str, resamples: int) -> Scores | None:
    """On resamples that models of the same images share, and no others."""
    if not model.seeds:
        return None
    weights = split_weights(model.images, model.seeds[0].groups, resamples)
    found = scores(model.seeds, metric, weights)
    return found if np.isfinite(found.point) else None


def _how(one: Answered, other: Answered) -> str:
    if one.classes != other.classes:
        return "other classes"
    return "paired" if one.images == other.images else "unpaired"
