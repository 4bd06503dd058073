"""Where what is recommended goes wrong, and what only the networks could tell of it, which `fteng.explain` kept on disk."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fteng import named, paths
from fteng.analysis.bootstrap import Interval
from fteng.analysis.metrics import METRICS, probabilities_of
from fteng.analysis.recommend import Candidate
from fteng.analysis.roc import POINTS, Band, against_rest, one_against_rest, working_points
from fteng.errors import UserError
from fteng.paths import StudyPaths
from fteng.summary.rows import Criteria
from fteng.trials import Variant

# Of explained.json.
_FORMAT = 1
_MISTAKES = 12
# Plans whose networks are compared with what they started from: each is read and walked once.
_COMPARED = 8
# With more classes the ones that are told apart worst, and no mean.
_CLASSES = 12
# Enough for a standard error to three per cent; each class asks for all of them.
_RESAMPLES = 500


def curves(chosen: Candidate, criteria: Criteria, classes: Sequence[str]) -> dict[str, Any]:
    """ROC and precision-recall of what is recommended, on test, with bands, and the points a clinic works at.

    rows: a class each, `positive` its name, None for the mean of all classes, which stands first.
    """
    test, val, count = chosen.test, chosen.val, len(classes)
    shown, weights = [1] if count == 2 else list(range(count)), criteria.weights["test"]
    if count > 2:
        weights = weights[:_RESAMPLES]
    if count > _CLASSES:
        areas = [METRICS["auc"].function((turned := against_rest(test[0], k)).labels, probabilities_of(turned)) for k in shown]
        shown = sorted(np.argsort(np.nan_to_num(areas, nan=2.0), kind="stable")[:_CLASSES].tolist())
    found, mean = one_against_rest(test, shown, weights, criteria.confidence)
    rows: list[dict[str, Any]] = []
    if 2 < count <= _CLASSES:
        rows.append({"positive": None, "share": None, "roc": _band(mean.roc), "precision": _band(mean.precision), "points": []})
    for k, one in zip(shown, found, strict=True):
        turned = [[against_rest(seed, k) for seed in seeds] for seeds in (val, test)]
        working = working_points(turned[0], turned[1], weights, criteria.confidence)
        points = [
            {"keeps": kept, "level": level, "best": _interval(*values)}
            | {name: None if work is None else getattr(work, name) for name in ("threshold", "log_odds")}
            | {rate: None if work is None else _interval(*getattr(work, rate)) for rate in ("sensitivity", "specificity")}
            for (kept, level), values, work in zip(
                POINTS, zip(one.points.value, one.points.low, one.points.high, strict=True), working, strict=True
            )
        ]
        share = float((test[0].labels == k).mean())
        row = {"positive": classes[k], "share": share, "roc": _band(one.roc), "precision": _band(one.precision)}
        rows.append(row | {"points": points})
    return {"rows": rows, "resamples": len(weights), "seeds": len(test), "classes": count}


def confusion(chosen: Candidate) -> list[list[int]]:
    """Test images of the first seed, the model one would take home: a row a true class, a column an answer."""
    first = chosen.test[0]
    count = first.logits.shape[1]
    cells = np.bincount(first.labels * count + first.logits.argmax(axis=1), minlength=count * count)
    return cells.reshape(count, count).tolist()


def mistakes(chosen: Candidate, classes: Sequence[str]) -> dict[str, Any]:
    """How many test images the first seed gets wrong, and those it was surest of, the surest first."""
    first = chosen.test[0]
    probabilities = probabilities_of(first)
    answers = probabilities.argmax(axis=1)
    sure = probabilities.max(axis=1)
    wrong = np.flatnonzero(answers != first.labels)
    order = wrong[np.argsort(-sure[wrong], kind="stable")][:_MISTAKES].tolist()
    rows = [
        {
            "id": str(first.ids[row]),
            "group": str(first.groups[row]),
            "truth": classes[int(first.labels[row])],
            "answer": classes[int(answers[row])],
            "probability": float(sure[row]),
            "probability_of_truth": float(probabilities[row, first.labels[row]]),
        }
        for row in order
    ]
    return {"count": len(wrong), "images": len(first.labels), "rows": rows}


def explainable(
    record: Mapping[str, Any], curve: Sequence[Mapping[str, Any]], row: Mapping[str, Any], wrong: Mapping[str, Any]
) -> dict[str, Any]:
    """What `fteng.explain` is to explain, and what its file says it is of: the recommended model, its mistakes, and one trial of
    each plan that started from the pretrained numbers, the recommended one first; of many plans some, spread over the depths.

    curve: the rows of the depth curve; row: the recommended one of them; wrong: of `mistakes`.
    """
    order = _spread(comparable(curve), row)
    classes = record["dataset"]["classes"]
    return {
        "format": _FORMAT,
        "name": named.name_of(row),
        "weights": record["weights"]["sha256"],
        "data": record["dataset"]["digest"],
        "pictures": record["config"]["judge"]["pictures"],
        "mistakes": [one["id"] for one in wrong["rows"]],
        "answers": [classes.index(one["answer"]) for one in wrong["rows"]],
        "truths": [classes.index(one["truth"]) for one in wrong["rows"]],
        "trials": [other["trials"][0] for other in order],
    }


def comparable(curve: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of the depth curve whose networks can be compared with the pretrained one."""
    return [row for row in curve if row["trials"] and Variant(**row["variant"]).start == "pretrained"]


def _spread(rows: Sequence[Mapping[str, Any]], first: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """At most `_COMPARED` of the rows: the recommended one, the one that trains most, then each time one that is furthest from all
    taken so far, so that the first few of them are spread as well."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]["trainable_stages"]))
    place_of = {index: place for place, index in enumerate(order)}
    taken = [index for index in order if rows[index] is first]
    taken += [index for index in order[-1:] if index not in taken]
    while len(taken) < min(_COMPARED, len(rows)):
        left = [index for index in order if index not in taken]
        taken.append(max(left, key=lambda index: min(abs(place_of[index] - place_of[other]) for other in taken)))
    return [rows[index] for index in taken]


def explained(study: StudyPaths, wanted: Mapping[str, Any] | None) -> dict[str, Any]:
    """What `fteng.explain` kept of `wanted`, with `reason` where there is nothing."""
    kept = study.explained
    if wanted is None or not kept.exists():
        return _unexplained("the networks were not looked at; python -m fteng.main does so at the end of a study")
    try:
        found = paths.read_record(kept, "of", "saliency", "changes", mend="")
    except UserError:
        return _unexplained(f"{kept.name} is damaged; run the study's command again")
    if found["of"] != wanted:
        return _unexplained("the networks were looked at before the recommendation became this one; run the study's command again")
    return {"saliency": found["saliency"], "changes": found["changes"], "reason": ""}


def _unexplained(reason: str) -> dict[str, Any]:
    return {"saliency": None, "changes": None, "reason": reason}


def _band(band: Band) -> dict[str, list[float | None]]:
    # Four decimals draw the same line in half the bytes.
    return {name: [round(float(x), 4) if np.isfinite(x) else None for x in values] for name, values in band._asdict().items()}


def _interval(value: float, low: float, high: float) -> dict[str, float | None]:
    return Interval(*(float(x) if np.isfinite(x) else None for x in (value, low, high)))._asdict()
