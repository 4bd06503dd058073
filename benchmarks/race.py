"""Does a race find what the whole sweep finds, where deep tuning can win and where it cannot, and what does it save?

    python -m benchmarks.race [--quick] [--studies=DIR] [--minutes=N]

Studies of `benchmarks.collection` on EfficientNet-Lite0, four rates and one seed (with more seeds a race saves more: only the
finalists get them). Every trial is trained to its end once, with its answers at every rung; then the race decides on these answers,
as it would have done while it trained, and the whole sweep is judged on the same trials. What each recommends was chosen on
validation; its regret is read off the test scores of the sweep: points behind the best plan there. `share`: of the sweep's epochs
that the race needed, and of the seconds of its steps. `rates`: what choosing a depth's rate early would lose. In DIR what was
trained is not trained again. Quick: one small study, no record.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.collection import Case, cases_of, options, run
from benchmarks.record import write_record
from fteng.analysis.compare import scores
from fteng.analysis.metrics import METRICS
from fteng.paths import StudyPaths, read_json
from fteng.race.decide import rungs
from fteng.results import Predictions, read_predictions

_RATES = "--config.sweep.learning_rates="
_FOUR = f"{_RATES}1e-3,3e-4,1e-4,3e-5"
_RACE = "--config.sweep.search=race"
# Nobody looks at these pages.
_PLAIN = "--config.judge.pictures=false"
_SIZE = 300


def main() -> int:
    rows: list[dict[str, Any]] = []
    with options(__doc__, "one small study") as of:
        for case in of.until(_cases(of.quick)):
            found = _both(case, of.where)
            if found is None:
                return 1
            rows.append({"study": case.name, **_compared(*found)})
            print(rows[-1], flush=True)
    table = Table("study", "best", "sweep", "race", "share", title="regret, points")
    for row in rows:
        told = (f"{row[name]['regret']:.1f}: {row[name]['recommended']}" for name in ("sweep", "race"))
        table.add_row(row["study"], row["best"], *told, f"{row['share']:.2f}")
    Console(width=160).print(table)
    if not of.quick:
        print(f"record: {write_record('race', rows)}")
    return 0


def _cases(quick: bool) -> list[Case]:
    if quick:
        return cases_of(quick)[:1]
    found = [case for case in cases_of(quick) if case.name.endswith(f"-efficientnet_lite0-{_SIZE}")]
    return [case._replace(flags=(*(flag for flag in case.flags if not flag.startswith(_RATES)), _FOUR)) for case in found]


def _both(case: Case, where: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, float]] | None:
    """The summaries of (the sweep, the race), and what choosing rates early loses; None where one failed."""
    if run(case, where, _PLAIN, _RACE, end="-whole", module="benchmarks.whole_race") is None:
        return None
    raced = where / f"{case.name}-raced"
    shutil.rmtree(raced, ignore_errors=True)
    shutil.copytree(where / f"{case.name}-whole", raced)
    (raced / "race.json").unlink(missing_ok=True)
    swept = run(case, where, _PLAIN, end="-whole")
    decided = swept and run(case, where, _PLAIN, _RACE, end="-raced")
    if not swept or not decided:
        return None
    # What the race would not have ended takes no part in what it recommends.
    needed, epochs = _needed(decided["race"])
    for trial in decided["trials"]:
        if needed.get(trial["id"], 0) < epochs:
            shutil.rmtree(raced / "trials" / trial["id"])
    subprocess.run([sys.executable, "-m", "fteng.report", str(raced)], check=True, capture_output=True)
    return swept, read_json(raced / "report" / "summary.json"), _rates(swept, StudyPaths(where / f"{case.name}-whole"))


def _rates(swept: Mapping[str, Any], study: StudyPaths) -> dict[str, float]:
    """What choosing a depth's rate by something else than its end loses on test, in points, mean over the depths that train stages:
    by the score at a third and two thirds of the epochs, and by the best rate of the depth before it, as the race does."""
    metric = swept["recommendation"]["metric"]
    sign = 1.0 if METRICS[metric].higher_is_better else -1.0
    ways: dict[int, dict[float, Mapping[str, Any]]] = {}
    for trial in swept["trials"]:
        if trial["status"] == "done" and trial["trainable_stages"]:
            ways.setdefault(trial["freeze_depth"], {})[trial["learning_rate"]] = trial
    marks = rungs(swept["run"]["config"]["train"]["epochs"])

    def score(answers: Predictions) -> float:
        return sign * scores([answers], metric, np.ones((1, len(answers.labels)))).point

    def early(trial: Mapping[str, Any], part: int) -> float:
        return score(read_predictions(study.trial(trial["id"]).rung(marks[part]))["val"])

    lost: dict[str, list[float]] = {"a third": [], "two thirds": [], "the depth before": []}
    carried: float | None = None
    for _, rates in sorted(ways.items(), reverse=True):
        ends = {rate: read_predictions(study.trial(trial["id"]).predictions) for rate, trial in rates.items()}
        test = {rate: score(end["test"]) for rate, end in ends.items()}
        best = max(rates, key=lambda rate: (score(ends[rate]["val"]), -rate))
        chosen = {
            "a third": max(rates, key=lambda rate: (early(rates[rate], 0), -rate)),
            "two thirds": max(rates, key=lambda rate: (early(rates[rate], 1), -rate)),
        }
        if carried in rates:
            chosen["the depth before"] = carried
        for name, rate in chosen.items():
            lost[name].append(100 * (test[best] - test[rate]))
        carried = best
    return {name: float(np.mean(points)) for name, points in lost.items() if points}


def _needed(race: Mapping[str, Any]) -> tuple[dict[str, int], int]:
    """(epochs that it takes each trial to, by id; epochs of a whole one)."""
    epochs, needed = race["rungs"][-1], dict[str, int]()
    for row in race["decisions"]:
        for trial in row["trials"] if row["decision"] not in ("not begun", "a lower rate") else ():
            needed[trial] = max(needed.get(trial, 0), row["epoch"] or epochs)
    return needed, epochs


def _compared(swept: Mapping[str, Any], raced: Mapping[str, Any], rates: Mapping[str, float]) -> dict[str, Any]:
    grade = swept["similarity"]["grade"]
    metric, best = grade["metric"], grade["best"]
    sign = 1 if METRICS[metric].higher_is_better else -1
    needed, epochs = _needed(raced["race"])
    seconds = {
        trial["id"]: trial["cost"]["seconds"] - trial["cost"]["prefix_seconds"] for trial in swept["trials"] if trial["cost"]
    }
    spent = sum(needed.get(trial, 0) / epochs * cost for trial, cost in seconds.items())

    def told(summary: Mapping[str, Any], cost: float) -> dict[str, Any]:
        row = summary["depth_curve"][summary["recommendation"]["row"]]
        regret = 100 * sign * (best["value"] - row["test"][metric]["value"])
        return {"recommended": row["label"], "rate": row["learning_rate"], "regret": regret, "seconds": cost}

    sweep, race = told(swept, sum(seconds.values())), told(raced, spent)
    return {
        "n": sum(swept["dataset"]["counts"]["train"].values()),
        "metric": metric,
        "best": best["label"],
        "sweep": sweep,
        "race": race,
        "race_loses": race["regret"] - sweep["regret"],
        "share": sum(needed.values()) / raced["race"]["epochs_exhaustive"],
        "share_of_seconds": spent / sum(seconds.values()),
        "rates": dict(rates),
        "goal": "<= 1",
    }


if __name__ == "__main__":
    sys.exit(main())
