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
from typing import Any, NamedTuple

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


class _Curve(NamedTuple):
    """A trial's scores, larger is better. val: at a third, at two thirds, and at the end; test: at the end."""

    val: tuple[float, ...]
    test: float


Curves = Mapping[int, Mapping[float, _Curve]]


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
        print(f"record: {write_record('race', [part for row in rows for part in _parts(row)])}")
    return 0


def _parts(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row of the record for each of its tables."""
    apart = ("rates", "stops")
    return [{key: row[key] for key in row if key not in apart}, *({"study": row["study"], name: row[name]} for name in apart)]


def _cases(quick: bool) -> list[Case]:
    if quick:
        return cases_of(quick)[:1]
    found = [case for case in cases_of(quick) if case.name.endswith(f"-efficientnet_lite0-{_SIZE}")]
    return [case._replace(flags=(*(flag for flag in case.flags if not flag.startswith(_RATES)), _FOUR)) for case in found]


def _both(case: Case, where: Path) -> tuple[dict[str, Any], dict[str, Any], Curves] | None:
    """The summaries of the sweep and the race, and the trials' curves; None where one failed."""
    if run(case, where, _PLAIN, _RACE, end="-whole", module="benchmarks.whole_race") is None:
        return None
    raced = where / f"{case.name}-raced"
    shutil.rmtree(raced, ignore_errors=True)
    shutil.copytree(where / f"{case.name}-whole", raced)
    (raced / "race.json").unlink(missing_ok=True)
    swept = run(case, where, _PLAIN, end="-whole")
    decided = swept and run(case, where, _PLAIN, _RACE, end="-raced", module="benchmarks.decided_race")
    if not swept or not decided:
        return None
    # What the race would not have ended takes no part in what it recommends.
    needed, epochs = _needed(decided["race"])
    for trial in decided["trials"]:
        if needed.get(trial["id"], 0) < epochs:
            shutil.rmtree(raced / "trials" / trial["id"])
    subprocess.run([sys.executable, "-m", "fteng.report", str(raced)], check=True, capture_output=True)
    return swept, read_json(raced / "report" / "summary.json"), _curves(swept, StudyPaths(where / f"{case.name}-whole"))


def _curves(swept: Mapping[str, Any], study: StudyPaths) -> Curves:
    """Of every trial that trains stages, by freeze depth, from the one that trains least on, and rate."""
    metric = swept["recommendation"]["metric"]
    sign = 1.0 if METRICS[metric].higher_is_better else -1.0
    marks = rungs(swept["run"]["config"]["train"]["epochs"])[:-1]

    def score(answers: Predictions) -> float:
        return sign * scores([answers], metric, np.ones((1, len(answers.labels)))).point

    found: dict[int, dict[float, _Curve]] = {}
    for trial in sorted(swept["trials"], key=lambda one: (-one["freeze_depth"], one["learning_rate"])):
        if trial["status"] == "done" and trial["trainable_stages"]:
            where = study.trial(trial["id"])
            early = [score(read_predictions(where.rung(mark))["val"]) for mark in marks]
            end = read_predictions(where.predictions)
            curve = _Curve((*early, score(end["val"])), score(end["test"]))
            found.setdefault(trial["freeze_depth"], {})[trial["learning_rate"]] = curve
    return found


def _rates(curves: Curves) -> dict[str, float]:
    """What choosing a depth's rate by something else than its end loses on test, in points, mean over depths: by the score at a
    third and two thirds of the epochs, and by the best rate of the depth before it, as the race does. Of equal rates the lowest."""
    lost: dict[str, list[float]] = {"a third": [], "two thirds": [], "the depth before": []}
    carried: float | None = None
    for rates in curves.values():
        led = [max(rates, key=lambda rate: (rates[rate].val[part], -rate)) for part in (0, 1, 2)]
        chosen = dict(zip(lost, (led[0], led[1], carried), strict=True))
        for name, rate in chosen.items():
            if rate is not None and rate in rates:
                lost[name].append(100 * (rates[led[2]].test - rates[rate].test))
        carried = led[2]
    return {name: float(np.mean(points)) for name, points in lost.items() if points}


def _stops(curves: Curves, classifier: float, growth: float) -> dict[str, int]:
    """How often the race would stop a depth, and how often wrongly, with so many validation images that scores have no error, each
    rate by itself. growth: how many times as much as any depth before it one is allowed to gain. Wrong: it ends ahead of all."""
    found = {"all": 0, "wrong": 0}
    for rate in sorted({rate for rates in curves.values() for rate in rates}):
        before: list[_Curve] = []
        for curve in (rates[rate] for rates in curves.values() if rate in rates):
            best = max([classifier, *(one.val[-1] for one in before)])
            stopped = any(
                before
                and curve.val[part] < max(one.val[part] for one in before)
                and curve.val[part] + growth * max(0.0, *(one.val[-1] - one.val[part] for one in before)) < best
                for part in (0, 1)
            )
            found["all"] += stopped
            found["wrong"] += stopped and curve.val[-1] > best
            if not stopped:
                before.append(curve)
    return found


def _needed(race: Mapping[str, Any]) -> tuple[dict[str, int], int]:
    """(epochs that it takes each trial to, by id; epochs of a whole one)."""
    epochs, needed = race["rungs"][-1], dict[str, int]()
    for row in race["decisions"]:
        for trial in row["trials"] if row["decision"] not in ("not begun", "a lower rate") else ():
            needed[trial] = max(needed.get(trial, 0), row["epoch"] or epochs)
    return needed, epochs


def _compared(swept: Mapping[str, Any], raced: Mapping[str, Any], curves: Curves) -> dict[str, Any]:
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

    chosen = next(row for row in swept["depth_curve"] if row["label"].startswith("linear classifier") and not row["trials"])
    classifier = sign * chosen["val"][metric]["value"]
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
        "rates": _rates(curves),
        "stops": {str(growth): _stops(curves, classifier, growth) for growth in (2, 4)},
        "goal": "<= 1",
    }


if __name__ == "__main__":
    sys.exit(main())
