"""What is recommended, against what, and all that is told of it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fteng.analysis.bootstrap import interval
from fteng.analysis.calibration import apply_temperature, fit_temperature, reliability
from fteng.analysis.compare import delong, every_pair
from fteng.analysis.metrics import METRICS, applicable, evaluate, is_finite
from fteng.analysis.recommend import FEWEST_GROUPS, Candidate, recommend
from fteng.analysis.subgroups import table
from fteng.paths import StudyPaths
from fteng.results import read_images
from fteng.summary.rows import Criteria, Row

# What a reviewer asks for by name, and the most levels a table of it may have: ids and free text are no subgroups.
_ATTRIBUTES = ("sex", "age", "site", "skin_type")
_MOST_LEVELS = 12


def recommendation(rows: Sequence[Row], criteria: Criteria) -> dict[str, Any] | None:
    """Chosen on val alone, and never a control: those show what pretraining is worth."""
    usable = [
        index
        for index, row in enumerate(rows)
        if row.entry["val"][criteria.metric]["value"] is not None and row.entry["variant"]["init"] == "pretrained"
    ]
    if not usable:
        return None
    candidates = [rows[index].candidate for index in usable]
    found = recommend(candidates, criteria.metric, criteria.margin, criteria.confidence, criteria.weights["val"])
    chosen = rows[usable[found.index]].entry
    alternatives = []
    for item in found.comparisons:
        entry = rows[usable[item.index]].entry
        numbers = {name: _defined(getattr(item, name)) for name in ("score", "difference", "low", "high", "bound", "p")}
        same = {name: entry[name] for name in ("freeze_depth", "tap", "leaves", "variant", "trainable_stages", "label")}
        numbers["delong_p"] = _delong_p(candidates[item.index], candidates[found.best], criteria.metric)
        alternatives.append(same | numbers | {"verdict": item.verdict})
    named = ("freeze_depth", "tap", "leaves", "variant", "trainable_stages", "label", "learning_rate")
    same = {name: chosen[name] for name in named}
    return same | {
        "row": usable[found.index],
        "metric": criteria.metric,
        "reason": found.reason,
        "groups": found.groups,
        "too_few": found.groups < FEWEST_GROUPS,
        "alternatives": alternatives,
    }


def pairs(shown: Sequence[Candidate], criteria: Criteria) -> list[dict[str, Any]]:
    """Every pair of rows of the depth curve on test; first and second are rows. Seeds that diverged take no part."""
    sound = [[seed for seed in candidate.test if is_finite(seed)] for candidate in shown]
    rows = [row for row, seeds in enumerate(sound) if seeds]
    found = every_pair([sound[row] for row in rows], criteria.metric, criteria.weights["test"], criteria.confidence)
    return [pair | {"first": rows[pair["first"]], "second": rows[pair["second"]]} for pair in found]


def final(chosen: Candidate, criteria: Criteria) -> dict[str, Any]:
    """Every metric that two or more classes allow, of what is recommended, on test."""
    test, weights = chosen.test, criteria.weights["test"]
    names = [metric.name for metric in applicable(test[0].logits.shape[1])]
    return {
        "images": len(test[0].labels),
        "groups": len(np.unique(test[0].groups)),
        "seeds": len(test),
        "metrics": {name: interval(test, name, weights, criteria.confidence)._asdict() for name in names},
        "labels": {name: METRICS[name].label for name in names},
    }


def calibration(chosen: Candidate) -> dict[str, Any]:
    """Of the first seed, the model one would take home: temperature fitted on val, its effect on test."""
    val, test = chosen.val[0], chosen.test[0]
    temperature = fit_temperature(val)
    after = None if temperature is None else apply_temperature(test, temperature)
    named = ("ece", "log_loss", "brier")
    return {
        "temperature": temperature,
        "images": len(test.labels),
        "before": {name: evaluate(test)[name] for name in named},
        "after": None if after is None else {name: evaluate(after)[name] for name in named},
        "bins_before": [bin_._asdict() for bin_ in reliability(test)],
        "bins_after": None if after is None else [bin_._asdict() for bin_ in reliability(after)],
    }


def subgroups(study: StudyPaths, chosen: Candidate, criteria: Criteria, resamples: int) -> list[dict[str, Any]]:
    """A table for each attribute the source states: what is recommended, on test, level by level."""
    if not study.images.exists():
        return []
    images = read_images(study.images)
    row_of = {name: row for row, name in enumerate(images["id"].tolist())}
    rows = [row_of[name] for name in chosen.test[0].ids.tolist()]
    tables = []
    for attribute in _ATTRIBUTES:
        if attribute not in images:
            continue
        values = [str(images[attribute][row]) for row in rows]
        values = [_age_band(value) for value in values] if attribute == "age" else values
        if 1 < len({value for value in values if value}) <= _MOST_LEVELS:
            found = table(chosen.test, values, criteria.metric, resamples, criteria.confidence)
            tables.append({"attribute": attribute, "metric": criteria.metric, "rows": found})
    return tables


def _age_band(text: str) -> str:
    """Decades would leave too few patients in each; what is no number is not stated."""
    try:
        age = float(text)
    except ValueError:
        return ""
    if not np.isfinite(age):
        return ""
    return "under 40" if age < 40 else "40 to 59" if age < 60 else "60 and over"


def _delong_p(candidate: Candidate, best: Candidate, metric: str) -> float | None:
    """A check of p that knows neither groups nor seeds nor corrections: first seeds, two classes, each image a group of its own."""
    one, other = candidate.val[0], best.val[0]
    if metric != "auc" or one.logits.shape[1] != 2 or len(np.unique(one.groups)) < len(one.groups):
        return None
    first, second = (answers.logits[:, 1] - answers.logits[:, 0] for answers in (one, other))
    return _defined(delong(one.labels, first, second).p)


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
