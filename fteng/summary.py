"""Records on disk -> the numbers of the page. Works at any moment of a study; imports no jax."""

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fteng import paths
from fteng.analysis.bootstrap import group_weights, interval
from fteng.analysis.calibration import apply_temperature, fit_temperature, reliability
from fteng.analysis.compare import delong
from fteng.analysis.metrics import METRICS, applicable, evaluate
from fteng.analysis.recommend import Candidate, best_rate, recommend
from fteng.analysis.subgroups import table
from fteng.errors import UserError
from fteng.paths import StudyPaths
from fteng.results import Predictions, read_images, read_predictions

# With an interval for every row of the depth curve; the rest of METRICS only for what is recommended.
_FOUR = ("accuracy", "balanced_accuracy", "auc", "log_loss")
# What a reviewer asks for by name, and the most levels a table of it may have: ids and free text are no subgroups.
_ATTRIBUTES = ("sex", "age", "site", "skin_type")
_MOST_LEVELS = 12


class _Judge(NamedTuple):
    """How this study judges. weights: a split -> (resamples, n), the same for every depth, so that they are compared in pairs."""

    metric: str
    margin: float
    confidence: float
    weights: Mapping[str, np.ndarray]


class _Row(NamedTuple):
    """A plan at its best rate, or a tap's probe: a candidate, and its row on the page."""

    candidate: Candidate
    entry: dict[str, Any]


def collect(workdir: Path) -> dict[str, Any]:
    """The summary of a work directory, finished or not. Raises UserError where there is no study."""
    study = StudyPaths(workdir)
    if not study.study.exists():
        raise UserError(f"{workdir} holds no study.json; give the --workdir of a study, or start one with python -m fteng.main")
    record = paths.read_json(study.study)
    probed = paths.read_json(study.probes / "result.json") if (study.probes / "result.json").exists() else None
    results = {
        row["id"]: paths.read_json(study.trial(row["id"]).result)
        for row in record["trials"]
        if study.trial(row["id"]).result.exists()
    }
    judge_config = record["config"]["judge"] | {"metric": _metric(record)}
    summary = {name: record[name] for name in ("backbone", "weights", "dataset", "stages", "groups")}
    summary |= {
        "experiment": record["config"]["experiment"],
        "profile": [] if probed is None else probed["profile"],
        "probes": [],
        "trials": [_trial(row, results.get(row["id"])) for row in record["trials"]],
        "depth_curve": [],
        "recommendation": None,
        "audit": [*_audit(results.values()), *_version_audit(results.values()), *_split_audit(study)],
        "judge": {name: judge_config[name] for name in ("metric", "margin", "confidence", "resamples")},
        "run": _run(record),
        "chance": {},
        "final": None,
        "calibration": None,
        "subgroups": [],
    }
    if probed is None:
        return summary
    answers = {row["tap"]: read_predictions(study.probes / f"{row['tap']}.parquet") for row in probed["probes"]}
    some = next(iter(answers.values()))
    weights = {split: group_weights(some[split].groups, judge_config["resamples"], zlib.crc32(split.encode())) for split in some}
    judge = _Judge(judge_config["metric"], judge_config["margin"], judge_config["confidence"], weights)
    rows = [*_tuned(study, results, judge), *_probed(probed["probes"], answers, judge)]
    choice = _recommendation(rows, judge)
    shown = _shown(rows, None if choice is None else choice["row"], judge)
    summary["probes"] = [
        row | {"test": rows_of.entry["test"]} for row, rows_of in zip(probed["probes"], rows[-len(probed["probes"]) :], strict=True)
    ]
    summary["depth_curve"] = [rows[index].entry for index in shown]
    summary["audit"] += _probe_audit(probed["probes"])
    summary["chance"] = _chance(some["test"])
    if choice is not None:
        chosen = rows[choice["row"]].candidate
        summary["recommendation"] = choice | {"row": shown.index(choice["row"])}
        summary["final"] = _final(chosen, judge)
        summary["calibration"] = _calibration(chosen)
        summary["subgroups"] = _subgroups(study, chosen, judge, judge_config["resamples"])
    return summary


def current(study: StudyPaths) -> dict[str, Any] | None:
    """The summary of the report as it stands, if it is of the same records, config and versions; else None.

    study.json alone may be newer: every run writes it anew.
    """
    page, kept = study.report / "index.html", study.report / "summary.json"
    if not page.exists() or not kept.exists():
        return None
    summary, record = paths.read_json(kept), paths.read_json(study.study)
    same = all(summary["run"][name] == record[name] for name in ("config", "versions", "git"))
    results = [study.probes / "result.json", *study.trials.glob("*/result.json")]
    written = page.stat().st_mtime_ns
    fresh = all(path.exists() and path.stat().st_mtime_ns < written for path in results)
    return summary if same and fresh and len(summary["trials"]) == len(record["trials"]) else None


def headline(summary: Mapping[str, Any]) -> str:
    """The answer in one or two lines of a terminal."""
    choice = summary["recommendation"]
    if choice is None:
        return "no trial has finished yet; nothing can be recommended"
    row = summary["depth_curve"][choice["row"]]
    score = row["test"][choice["metric"]]
    bounds = "" if score["low"] is None else f" [{score['low']:.3f}, {score['high']:.3f}]"
    value = "undefined" if score["value"] is None else f"{score['value']:.3f}"
    images = sum(summary["dataset"]["counts"]["test"].values())
    label = METRICS[choice["metric"]].label
    return f"recommended: {row['label']}; {label} {value}{bounds} on {images} test images\n{choice['reason']}"


def _metric(record: Mapping[str, Any]) -> str:
    asked = record["config"]["judge"]["metric"]
    if asked != "auto":
        return asked
    return "auc" if len(record["dataset"]["classes"]) == 2 else "balanced_accuracy"


def _trial(planned: Mapping[str, Any], result: Mapping[str, Any] | None) -> dict[str, Any]:
    """A row of the trials table: a planned trial without a result is waiting."""
    if result is None:
        return {**planned, "status": "waiting", "note": "", "val": {}, "test": {}, "cost": None}
    return {name: result[name] for name in (*planned, "status", "note", "val", "test", "cost")}


def _tuned(study: StudyPaths, results: Mapping[str, Any], judge: _Judge) -> list[_Row]:
    """Every plan that has a finished trial, at the rate with the best mean over its seeds on val."""
    plans: dict[tuple[Any, ...], dict[float, list[dict[str, Any]]]] = {}
    for result in results.values():
        if result["status"] == "done" and result["val"].get(judge.metric) is not None:
            key = (result["tap"], result["freeze_depth"], tuple(result["trainable_stages"]), result["leaves"])
            plans.setdefault(key, {}).setdefault(result["learning_rate"], []).append(result)
    rows = []
    for (tap, depth, stages, leaves), rates in plans.items():
        read = {rate: [read_predictions(study.trial(trial["id"]).predictions) for trial in found] for rate, found in rates.items()}
        rate = best_rate({rate: [seed["val"] for seed in seeds] for rate, seeds in read.items()}, judge.metric)
        if rate is None:
            continue
        trials, answers = rates[rate], read[rate]
        cost = {name: float(np.mean([trial["cost"][name] for trial in trials])) for name in trials[0]["cost"]}
        label = _label(tap, depth, stages, leaves)
        entry = {
            "freeze_depth": depth,
            "tap": tap,
            "leaves": leaves,
            "trainable_stages": list(stages),
            "label": label,
            "learning_rate": rate,
            "seeds": len(trials),
            "trials": [trial["id"] for trial in trials],
            "cost": cost,
        }
        rows.append(_row(label, entry, answers, cost["flops_per_example"], judge))
    return sorted(rows, key=lambda row: (len(row.entry["trainable_stages"]), row.entry["label"]))


def _probed(probes: Sequence[Mapping[str, Any]], answers: Mapping[str, Mapping[str, Predictions]], judge: _Judge) -> list[_Row]:
    """The probe of every tap as a candidate: nothing is tuned, and the network ends there."""
    rows = []
    for probe in probes:
        label = f"linear classifier on {probe['tap']}"
        entry = {
            "freeze_depth": probe["stage_index"] + 1,
            "tap": probe["tap"],
            "leaves": "all",
            "trainable_stages": [],
            "label": label,
            "learning_rate": None,
            "seeds": 1,
            "trials": [],
            "cost": probe["cost"],
        }
        rows.append(_row(label, entry, [dict(answers[probe["tap"]])], probe["cost"]["flops_per_example"], judge))
    return rows


def _shown(rows: Sequence[_Row], chosen: int | None, judge: _Judge) -> list[int]:
    """Which rows stand in the depth curve: all that were tuned, the best probe on val, and what is recommended."""
    sign = 1 if METRICS[judge.metric].higher_is_better else -1

    def score(index: int) -> float:
        value = rows[index].entry["val"][judge.metric]["value"]
        return -np.inf if value is None else sign * value

    probes = [index for index, row in enumerate(rows) if not row.entry["trials"]]
    kept = {index for index, row in enumerate(rows) if row.entry["trials"]} | {max(probes, key=score)}
    return sorted(kept | ({chosen} if chosen is not None else set()))


def _row(label: str, entry: dict[str, Any], answers: Sequence[Mapping[str, Predictions]], flops: float, judge: _Judge) -> _Row:
    val, test = [seed["val"] for seed in answers], [seed["test"] for seed in answers]
    entry = entry | {"val": _intervals(val, "val", judge), "test": _intervals(test, "test", judge)}
    stages = len(entry["trainable_stages"])
    return _Row(Candidate(label, entry["tap"], entry["freeze_depth"], stages, flops, val, test), entry)


def _label(tap: str, depth: int | None, stages: Sequence[str], leaves: str) -> str:
    only = "" if leaves == "all" else f", {leaves} parameters only"
    if not stages:
        return f"linear classifier on {tap}, trained by steps"
    if depth is None:
        return f"only {', '.join(stages)} tuned{only}"
    return f"everything tuned{only}" if depth == 0 else f"first {depth} stages frozen{only}"


def _intervals(seeds: Sequence[Predictions], split: str, judge: _Judge) -> dict[str, dict[str, float | None]]:
    return {name: interval(seeds, name, judge.weights[split], judge.confidence)._asdict() for name in _FOUR}


def _recommendation(rows: Sequence[_Row], judge: _Judge) -> dict[str, Any] | None:
    """Chosen on val alone."""
    usable = [index for index, row in enumerate(rows) if row.entry["val"][judge.metric]["value"] is not None]
    if not usable:
        return None
    candidates = [rows[index].candidate for index in usable]
    found = recommend(candidates, judge.metric, judge.margin, judge.confidence, judge.weights["val"])
    chosen = rows[usable[found.index]].entry
    alternatives = []
    for item in found.comparisons:
        entry = rows[usable[item.index]].entry
        numbers = {name: _defined(getattr(item, name)) for name in ("score", "difference", "low", "high", "bound", "p")}
        same = {name: entry[name] for name in ("freeze_depth", "tap", "leaves", "trainable_stages", "label")}
        numbers["delong_p"] = _delong_p(candidates[item.index], candidates[found.best], judge.metric)
        alternatives.append(same | numbers | {"verdict": item.verdict})
    same = {name: chosen[name] for name in ("freeze_depth", "tap", "leaves", "trainable_stages", "label", "learning_rate")}
    return same | {
        "row": usable[found.index],
        "metric": judge.metric,
        "reason": found.reason,
        "alternatives": alternatives,
    }


def _final(chosen: Candidate, judge: _Judge) -> dict[str, Any]:
    """Every metric that two or more classes allow, of what is recommended, on test."""
    test, weights = chosen.test, judge.weights["test"]
    names = [metric.name for metric in applicable(test[0].logits.shape[1])]
    return {
        "images": len(test[0].labels),
        "groups": len(np.unique(test[0].groups)),
        "seeds": len(test),
        "metrics": {name: interval(test, name, weights, judge.confidence)._asdict() for name in names},
        "labels": {name: METRICS[name].label for name in names},
    }


def _calibration(chosen: Candidate) -> dict[str, Any]:
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


def _subgroups(study: StudyPaths, chosen: Candidate, judge: _Judge, resamples: int) -> list[dict[str, Any]]:
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
            found = table(chosen.test, values, judge.metric, resamples, judge.confidence)
            tables.append({"attribute": attribute, "metric": judge.metric, "rows": found})
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


def _audit(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each check over all finished trials: passed in every one, and its largest value."""
    checks: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        for check in result["audit"]:
            checks.setdefault(check["check"], []).append(check)
    rows = []
    for name, found in checks.items():
        verdicts = Counter(check["passed"] for check in found)
        worst = max(found, key=lambda check: (check["passed"] is False, check["value"]))
        passed = None if verdicts[None] == len(found) else verdicts[False] == 0
        judged = len(found) - verdicts[None]
        detail = f"{verdicts[True]} of {judged} trials pass; the largest: {worst['detail']}"
        detail = detail if judged else f"does not apply to any of {len(found)} trials: {worst['detail']}"
        rows.append({"check": name, "passed": passed, "value": worst["value"], "detail": detail})
    return rows


def _version_audit(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A study may be continued after an update; the same bits can then not be promised."""
    made_by = Counter(", ".join(f"{name} {version}" for name, version in result["provenance"].items()) for result in results)
    if not made_by:
        return []
    detail = "; ".join(f"{count} trials by {what}" for what, count in made_by.most_common())
    return [
        {"check": "all trials ran under the same versions", "passed": len(made_by) == 1, "value": len(made_by), "detail": detail}
    ]


def _probe_audit(probes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For the reader to weigh: no failure, but a better strength may lie beyond the list, or a fit stopped early."""
    edge = [row["tap"] for row in probes if row["l2_at_edge"]]
    worst = max(row["relative_gradient"] for row in probes)
    detail = f"at the edge: {', '.join(edge) or 'none'}; largest gradient left, relative to the start: {worst:.1e}"
    return [{"check": "probes whose L2 strength is the first or last tried", "passed": None, "value": len(edge), "detail": detail}]


def _split_audit(study: StudyPaths) -> list[dict[str, Any]]:
    """Read from the images' own table, not from the code that split them."""
    if not study.images.exists():
        return []
    images = read_images(study.images)
    splits_of: dict[str, set[str]] = {}
    for group, split in zip(images["group"].tolist(), images["split"].tolist(), strict=True):
        splits_of.setdefault(group, set()).add(split)
    cut = sorted(group for group, splits in splits_of.items() if len(splits) > 1)
    detail = f"{len(splits_of)} groups of {len(images['id'])} images" + (f"; cut: {', '.join(cut[:5])}" if cut else "")
    return [{"check": "no group stands on both sides of a split", "passed": not cut, "value": len(cut), "detail": detail}]


def _run(record: Mapping[str, Any]) -> dict[str, Any]:
    """How to run it again, and what it took over all its runs."""
    phases: Counter[str] = Counter()
    for run in record["runs"]:
        phases.update(run["seconds_by_phase"])
    kept = {name: record[name] for name in ("command", "versions", "device", "cpu", "git", "started", "config")}
    peak = max((run["peak_bytes"] for run in record["runs"]), default=None)
    return kept | {"seconds": sum(phases.values()), "seconds_by_phase": dict(phases), "peak_bytes": peak}


def _chance(test: Predictions) -> dict[str, float | None]:
    """What an answer without looking scores: the class shares of the test images for every image."""
    shares = np.bincount(test.labels, minlength=test.logits.shape[1]) / len(test.labels)
    with np.errstate(divide="ignore"):
        constant = np.broadcast_to(np.log(np.maximum(shares, 1e-12)).astype(np.float32), test.logits.shape)
    return evaluate(test._replace(logits=constant))
