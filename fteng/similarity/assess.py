"""The whole answer before a sweep, from what the probes' pass has left: one record that goes to JSON as it is."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from threadpoolctl import threadpool_limits

from fteng.similarity import folklore
from fteng.similarity.against_source import SourceMoments, compare_with_source, median_shift
from fteng.similarity.between_splits import compare_splits
from fteng.similarity.learning import Fit, Rows, last_doubling, learning_curve
from fteng.similarity.predict import EVIDENCE, FORM, predict
from fteng.similarity.stages import FOLDS, MOST, MOST_PAIRS, SCORES, Chosen, Measured, choose, judged_by, measure
from fteng.similarity.task import ask_source_head
from fteng.undefined import UndefinedError

# Grows when a reader of an older record could misread it.
FORMAT = 2


class Surveyed(NamedTuple):
    """What is assessed. rows: labels, groups, ids and splits; images: (n, h, w, 3) uint8, of which a few are shown small, or
    None: none is; metric: what will decide; probes: as in probes/result.json, of which `tap`, `val` and `test` are read; chosen:
    the tap of the one that folds of the training images choose; declared: what the user says of the task (judge.task); steps: of
    training, that the recipe makes."""

    stages: Sequence[str]
    taps: Sequence[Shaped[np.ndarray, "n _"]]
    rows: Rows
    classes: Sequence[str]
    images: Shaped[np.ndarray, "n h w 3"] | None
    metric: str
    probes: Sequence[Mapping[str, Any]]
    chosen: str
    steps: int
    declared: str = ""


# Small products on all cores wait for each other; stages side by side, each on one core, do not.
@threadpool_limits.wrap(limits=1)
def assess(
    surveyed: Surveyed,
    source: SourceMoments,
    source_logits: Float[np.ndarray, "n z"] | None,
    gradient_to_weight: Sequence[float] | None,
    fit: Fit,
) -> dict[str, Any]:
    """Distances, classes, scores and advice, each number with a reason where it has none.

    source_logits: of the source head, of all images; gradient_to_weight: the gradient's norm over the weights' norm, one a stage
    (Lee et al. 2023), or None; fit: classifiers of a learning curve. Looks at training images, and at the test images' features
    for one question alone, whether they are like the training images: labels of test images are read only for learning curves'
    test scores, which no advice uses.
    """
    began = time.perf_counter()
    labels, groups, splits = surveyed.rows.labels, surveyed.rows.groups, surveyed.rows.splits
    many, few = (choose(labels, groups, splits["train"], most) for most in (MOST, MOST_PAIRS))
    measured = measure(surveyed.taps, many, few, surveyed.metric)
    compared = compare_with_source(surveyed.stages, source)
    task = ask_source_head(source_logits, many, few, surveyed.classes, surveyed.metric, surveyed.rows.ids, surveyed.images)
    counts = np.bincount(labels[splits["train"]], minlength=len(surveyed.classes))
    rarest = int(counts.min())
    told = folklore.folklore(tuple(surveyed.stages), rarest, median_shift(compared), task["useful"]["value"], surveyed.declared)
    return {
        "format": FORMAT,
        "metric": surveyed.metric,
        "stages": list(surveyed.stages),
        "images": {"train": len(splits["train"]), "linear": len(many.rows), "pairs": len(few.rows), "folds": FOLDS},
        "profile": compared,
        "splits": compare_splits(surveyed.stages, surveyed.taps, labels, groups, splits["train"], splits["test"]),
        "alignment": _by_stage(surveyed.stages, measured.alignment),
        "classes": {"count": len(surveyed.classes), "rarest": rarest, "rows": _by_stage(surveyed.stages, measured.classes)},
        "learning": _learning(surveyed, fit),
        "task": task | {"declared": surveyed.declared},
        "scores": _scores(surveyed.stages, measured, gradient_to_weight),
        "advice": {"folklore": folklore.record(told), "ours": _ours(surveyed, measured, few), "probe": _chosen_probe(surveyed)},
        "seconds": time.perf_counter() - began,
    }


def _by_stage(stages: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"stage": stage, **row} for stage, row in zip(stages, rows, strict=True)]


def _scores(stages: Sequence[str], measured: Measured, rgn: Sequence[float] | None) -> list[dict[str, Any]]:
    """One entry a score, with a row a stage."""
    found = [
        {
            "name": name,
            "label": score.label,
            "definition": score.source,
            "rows": [{"stage": stage, **row[name]} for stage, row in zip(stages, measured.scores, strict=True)],
        }
        for name, score in SCORES.items()
    ]
    none = {"value": None, "reason": "no gradient was taken (judge.gradient_images)"}
    ratios = [none if rgn is None else _ratio(value) for value in (rgn or [0.0] * len(stages))]
    rows = [{"stage": stage, **value} for stage, value in zip(stages, ratios, strict=True)]
    return [*found, {"name": "rgn", "label": "gradient to weight", "definition": "Lee et al. 2023", "rows": rows}]


def _ratio(value: float) -> dict[str, Any]:
    if not np.isfinite(value):
        return {"value": None, "reason": "the stage has no weights, or its gradient is not finite"}
    return {"value": float(value), "reason": ""}


def _learning(surveyed: Surveyed, fit: Fit) -> dict[str, Any]:
    """Of the tap whose probe was chosen, and of the last."""
    curves = []
    for tap in dict.fromkeys([surveyed.chosen, surveyed.stages[-1]]):
        index = list(surveyed.stages).index(tap)
        probe = next((row for row in surveyed.probes if row["tap"] == tap), None)
        if probe is None:
            continue
        points = learning_curve(surveyed.taps[index], surveyed.rows, len(surveyed.classes), surveyed.metric, fit)
        full = {name: probe[name].get(surveyed.metric) for name in ("val", "test")}
        whole = {"share": 1.0, "images": len(surveyed.rows.splits["train"]), **full, "reason": ""}
        curves.append({"tap": tap, "points": [*points, whole], "last_doubling": last_doubling(points, full["val"])})
    return {"curves": curves}


def _chosen_probe(surveyed: Surveyed) -> dict[str, Any]:
    return {"tap": surveyed.chosen, "freeze_depth": list(surveyed.stages).index(surveyed.chosen) + 1, "tuned": False}


def _scarce(classes: Sequence[str], labels: Int[np.ndarray, "n"]) -> str:
    """Which classes have a single image, and what can be done; empty where none has."""
    counts = np.bincount(labels, minlength=len(classes))
    alone = [name for name, count in zip(classes, counts, strict=True) if count == 1]
    return f" ({', '.join(alone)}: add images, or merge it into another by data.merge)" if alone else ""


def _ours(surveyed: Surveyed, measured: Measured, few: Chosen) -> dict[str, Any]:
    about = {"form": FORM, "evidence": EVIDENCE}
    if not few.folds:
        return about | {"ranking": [], "plan": None, "reason": "cross-validation needs two groups of images"}
    metric, chosen = judged_by(surveyed.metric), surveyed.chosen
    try:
        found = predict(surveyed.stages, measured.grams, few.labels, few.groups, few.folds, metric, surveyed.steps, chosen)
    except UndefinedError as error:
        return about | {"ranking": [], "plan": None, "reason": f"{error}{_scarce(surveyed.classes, few.labels)}"}
    return about | {"ranking": found.ranking, "plan": found.chosen._asdict(), "reason": found.reason}
