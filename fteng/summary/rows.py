"""The rows of the depth curve: every plan at its best rate, and the probe of every tap."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fteng.analysis.bootstrap import interval
from fteng.analysis.recommend import Candidate, best_rate
from fteng.freeze.plan import describe_probe
from fteng.paths import StudyPaths
from fteng.results import Predictions, read_predictions
from fteng.trials import Variant, label_of

# With an interval for every row of the depth curve; the rest of METRICS only for what is recommended.
_FOUR = ("accuracy", "balanced_accuracy", "auc", "log_loss")


class Criteria(NamedTuple):
    """How this study judges. weights: a split -> (resamples, n), the same for every depth, so that they are compared in pairs."""

    metric: str
    margin: float
    confidence: float
    weights: Mapping[str, np.ndarray]


class Row(NamedTuple):
    """A plan at its best rate, or a tap's probe: a candidate, and its row on the page."""

    candidate: Candidate
    entry: dict[str, Any]


def tuned_rows(study: StudyPaths, results: Mapping[str, Any], criteria: Criteria) -> list[Row]:
    """Every plan that has a finished trial, at the rate with the best mean over its seeds on val."""
    plans: dict[tuple[Any, ...], dict[float, list[dict[str, Any]]]] = {}
    for result in results.values():
        if result["status"] == "done" and result["val"].get(criteria.metric) is not None:
            variant = Variant(**result["variant"])
            key = (result["tap"], result["freeze_depth"], tuple(result["trainable_stages"]), result["leaves"], variant)
            plans.setdefault(key, {}).setdefault(result["learning_rate"], []).append(result)
    rows = []
    for (tap, depth, stages, leaves, variant), rates in plans.items():
        read = {rate: [read_predictions(study.trial(trial["id"]).predictions) for trial in found] for rate, found in rates.items()}
        rate = best_rate({rate: [seed["val"] for seed in seeds] for rate, seeds in read.items()}, criteria.metric)
        if rate is None:
            continue
        trials, answers = rates[rate], read[rate]
        cost = {name: float(np.mean([trial["cost"][name] for trial in trials])) for name in trials[0]["cost"]}
        label = label_of(tap, depth, stages, leaves, variant)
        entry = {
            "freeze_depth": depth,
            "tap": tap,
            "leaves": leaves,
            "variant": variant._asdict(),
            "trainable_stages": list(stages),
            "label": label,
            "learning_rate": rate,
            "seeds": len(trials),
            "trials": [trial["id"] for trial in trials],
            "cost": cost,
        }
        rows.append(_row(label, entry, answers, cost["flops_per_example"], criteria))
    return sorted(rows, key=lambda row: (len(row.entry["trainable_stages"]), row.entry["label"]))


def probed_rows(
    probes: Sequence[Mapping[str, Any]], answers: Mapping[str, Mapping[str, Predictions]], criteria: Criteria
) -> list[Row]:
    """The probe of every tap as a plan: nothing is tuned, and the network ends there."""
    rows = []
    for probe in probes:
        label = describe_probe(probe["tap"])
        entry = {
            "freeze_depth": probe["stage_index"] + 1,
            "tap": probe["tap"],
            "leaves": "all",
            "variant": Variant()._asdict(),
            "trainable_stages": [],
            "label": label,
            "learning_rate": None,
            "seeds": 1,
            "trials": [],
            "cost": probe["cost"],
        }
        rows.append(_row(label, entry, [dict(answers[probe["tap"]])], probe["cost"]["flops_per_example"], criteria))
    return rows


def _row(label: str, entry: dict[str, Any], answers: Sequence[Mapping[str, Predictions]], flops: float, criteria: Criteria) -> Row:
    val, test = [seed["val"] for seed in answers], [seed["test"] for seed in answers]
    entry = entry | {"val": _intervals(val, "val", criteria), "test": _intervals(test, "test", criteria)}
    stages = len(entry["trainable_stages"])
    return Row(Candidate(label, entry["tap"], entry["freeze_depth"], stages, flops, val, test), entry)


def _intervals(seeds: Sequence[Predictions], split: str, criteria: Criteria) -> dict[str, dict[str, float | None]]:
    return {name: interval(seeds, name, criteria.weights[split], criteria.confidence)._asdict() for name in _FOUR}
