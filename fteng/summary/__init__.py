"""Records on disk -> the numbers of the page. Works at any moment of a study; imports no jax."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fteng import paths, steer
from fteng.analysis.bootstrap import split_weights
from fteng.analysis.metrics import METRICS, deciding_metric, evaluate
from fteng.config_check import from_dict
from fteng.errors import UserError
from fteng.paths import StudyPaths
from fteng.race.record import read_race
from fteng.record import read_study, read_survey
from fteng.results import Predictions, read_predictions
from fteng.summary.audit import of_costs, of_probes, of_splits, of_trials, of_versions
from fteng.summary.chosen import calibration, final, pairs, recommendation, subgroups
from fteng.summary.errors import confusion, curves, explainable, explained, mistakes
from fteng.summary.rows import Criteria, probed_rows, tuned_rows
from fteng.summary.similarity import similarity

_OF_STUDY = (
    *("backbone", "weights", "source_profile", "dataset", "stages", "groups", "config", "trials", "runs"),
    *("command", "versions", "device", "cpu", "git", "started"),
)
_OF_TRIAL = ("status", "note", "val", "test", "cost", "audit")


def collect(workdir: Path) -> dict[str, Any]:
    """The summary of a work directory, finished or not. Raises UserError where there is no study, or a record is damaged."""
    study = StudyPaths(workdir)
    record = read_study(study, *_OF_STUDY)
    # Says in one line where another version wrote it.
    from_dict(record["config"])
    probed = read_survey(study) if study.surveyed.exists() else None
    results = {
        row["id"]: study.trial(row["id"]).read_result(*_OF_TRIAL)
        for row in record["trials"]
        if study.trial(row["id"]).result.exists()
    }
    race, stopped = read_race(study, record), steer.read(study).stopped
    # A new mapping: the config in the summary stays as it was run, which `current` compares.
    metric = deciding_metric(record["config"]["judge"]["metric"], len(record["dataset"]["classes"]))
    judge_config = record["config"]["judge"] | {"metric": metric}
    summary = {name: record[name] for name in ("backbone", "weights", "source_profile", "dataset", "stages", "groups")}
    summary |= {
        "experiment": record["config"]["experiment"],
        "profile": [] if probed is None else probed["profile"],
        "probes": [],
        "trials": [_trial(row, results.get(row["id"]), race, row["id"] in stopped) for row in record["trials"]],
        "race": race,
        "depth_curve": [],
        "recommendation": None,
        "pairs": [],
        "audit": [*of_trials(results.values()), *of_versions(results.values()), *of_costs(results.values()), *of_splits(study)],
        "judge": {name: judge_config[name] for name in ("metric", "margin", "confidence", "resamples")},
        "run": _run(record),
        "chance": {},
        "final": None,
        "calibration": None,
        "subgroups": [],
        "similarity": None,
        "curves": None,
        "confusion": None,
        "mistakes": None,
        "explainable": None,
        "records": records(study),
    }
    summary["explained"] = explained(study, None)
    if probed is None:
        return summary
    answers = {row["tap"]: read_predictions(study.probe(row["tap"])) for row in probed["probes"]}
    some = next(iter(answers.values()))
    weights = {split: split_weights(split, some[split].groups, judge_config["resamples"]) for split in some}
    criteria = Criteria(judge_config["metric"], judge_config["margin"], judge_config["confidence"], weights)
    tuned, probes = tuned_rows(study, results, criteria), probed_rows(probed["probes"], answers, criteria)
    # One classifier stands for all: of many the luckiest on val would be compared with what was tuned.
    rows = [*tuned, *(row for row in probes if row.entry["tap"] == probed["chosen"])]
    choice = recommendation(rows, criteria)
    summary["probes"] = [row | {"test": probe.entry["test"]} for row, probe in zip(probed["probes"], probes, strict=True)]
    summary["depth_curve"] = [row.entry for row in rows]
    summary["audit"] += of_probes(probed["probes"])
    summary["chance"] = _chance(some["test"])
    summary["similarity"] = similarity(study, [*tuned, *probes], summary["trials"], criteria, choice["label"] if choice else "")
    if choice is not None:
        chosen = rows[choice["row"]].candidate
        summary["recommendation"] = choice
        summary["pairs"] = pairs([row.candidate for row in rows], criteria)
        summary["final"] = final(chosen, criteria)
        summary["calibration"] = calibration(chosen)
        summary["subgroups"] = subgroups(study, chosen, criteria, judge_config["resamples"])
        classes, curve = record["dataset"]["classes"], summary["depth_curve"]
        summary |= {
            "curves": curves(chosen, criteria, classes),
            "confusion": confusion(chosen),
            "mistakes": mistakes(chosen, classes),
        }
        row = curve[choice["row"]]
        summary["explainable"] = explainable(record, curve, row, summary["mistakes"])
        summary["explained"] = explained(study, summary["explainable"])
    return summary


def shown(study: StudyPaths) -> dict[str, Any] | None:
    """The summary beside the page, if it is of this config and of all the results there are; else None."""
    if not (study.page.exists() and study.summary.exists() and study.study.exists()):
        return None
    try:
        summary, record = paths.read_json(study.summary), paths.read_json(study.study)
        same = summary["run"]["config"] == record["config"] and len(summary["trials"]) == len(record["trials"])
        return summary if same and summary.get("records") == records(study) else None
    except (UserError, KeyError, TypeError, AttributeError):
        # Cut short by a full disk, or edited: it is made anew from the records.
        return None


def current(study: StudyPaths) -> dict[str, Any] | None:
    """What is `shown`, if it is of the same versions too, and the networks were looked at where they could be; else None.

    study.json alone may be newer: every run writes it anew.
    """
    summary = shown(study)
    if summary is None:
        return None
    record = read_study(study, *_OF_STUDY)
    try:
        same = all(summary["run"][name] == record[name] for name in ("versions", "git"))
        # A page made where the networks could not be looked at waits for who can.
        wanted, seen = summary.get("explainable"), summary.get("explained")
        whole = seen is not None and (wanted is None or (not seen["reason"] and seen == explained(study, wanted)))
    except (UserError, KeyError, TypeError, AttributeError):
        return None
    return summary if same and whole else None


def records(study: StudyPaths) -> str:
    """A digest of what the numbers come from. Contents, not times: clocks of hosts differ, and files are copied."""
    found = [study.surveyed, study.race, study.steering, *sorted(study.trials.glob("*/result.json"))]
    whole = hashlib.sha256()
    for path in found:
        if path.exists():
            whole.update(f"{path.relative_to(study.root)}\n".encode() + path.read_bytes())
    return whole.hexdigest()


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


def _trial(
    planned: Mapping[str, Any], result: Mapping[str, Any] | None, race: Mapping[str, Any] | None, stopped: bool
) -> dict[str, Any]:
    """A row of the trials table: a planned trial without a result is waiting, or its user or the race did without it."""
    if result is None:
        why = f"{steer.BY_USER} before it began" if stopped else "" if race is None else _not_run(planned["id"], race)
        return {**planned, "status": "not run" if why else "waiting", "note": why, "val": {}, "test": {}, "cost": None}
    return {name: result[name] for name in (*planned, "status", "note", "val", "test", "cost")}


def _not_run(trial: str, race: Mapping[str, Any]) -> str:
    """Why a race that is over never began a trial; empty while it is not over."""
    if not race["over"]:
        return ""
    skipped = [decision for decision in race["decisions"] if decision["decision"] == "not begun"]
    named = [decision["why"] for decision in skipped if trial in decision["trials"]]
    return named[0] if named else "a seed that the race did not need"


def _run(record: Mapping[str, Any]) -> dict[str, Any]:
    """How to run it again, and what it took over all its runs."""
    phases: Counter[str] = Counter()
    for run in record["runs"]:
        phases.update(run["seconds_by_phase"])
    kept = {name: record[name] for name in ("command", "versions", "device", "cpu", "git", "started", "config")}
    kept["peak_bytes"] = max((run["peak_bytes"] for run in record["runs"]), default=None)
    kept["predicted_bytes"] = max((run.get("predicted_bytes", 0) for run in record["runs"]), default=0) or None
    kept["prefix"] = next((run["prefix"] for run in reversed(record["runs"]) if run.get("prefix")), [])
    return kept | {"seconds": sum(phases.values()), "seconds_by_phase": dict(phases)}


def _chance(test: Predictions) -> dict[str, float | None]:
    """What an answer without looking scores: the class shares of the test images for every image."""
    shares = np.bincount(test.labels, minlength=test.logits.shape[1]) / len(test.labels)
    with np.errstate(divide="ignore"):
        constant = np.broadcast_to(np.log(np.maximum(shares, 1e-12)).astype(np.float32), test.logits.shape)
    return evaluate(test._replace(logits=constant))
