"""Is advice before a sweep worth anything? Many studies: what following each advice would have lost, and how scores rank depths.

    python -m benchmarks.advice [--quick] [--studies=DIR] [--minutes=N]

Over the studies of `benchmarks.collection`; the table is made from their summary.json. No number of any advice is fitted, but the
form of ours was chosen while looking at some of them: totals of those (`looked at`) stand apart from totals of the others, which
ran after the form stood and alone judge it fairly; but folds choose the classifier of short schedules only since they were seen
(studies of 50). `sweep`: what the study recommends after its sweep, for comparison. Quick: one
small study and one step of the ladder, to see that it runs.
"""

import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.collection import Case, cases_of, options, run
from benchmarks.record import write_record
from fteng.analysis.metrics import METRICS

_GROUPS = ("judging", "looked at")


def main() -> int:
    rows, whole = [], True
    with options(__doc__, "two small studies") as of:
        for case in of.until(cases_of(of.quick)):
            if (found := run(case, of.where)) is None:
                whole = False
            else:
                rows.append(_row(case, found))
    totals = [total for what in ("regret", "tau") for group in _GROUPS for total in _total(rows, what, group)]
    _print(rows, totals)
    if not of.quick:
        print(f"record: {write_record('advice', [*rows, *totals])}")
    return 0 if whole else 1


def _row(case: Case, summary: Mapping[str, Any]) -> dict[str, Any]:
    said = summary["similarity"]
    grade, stages = said["grade"], len(summary["stages"])
    # The ladder speaks of where tuning should begin, not of classifiers on earlier taps.
    sign = 1 if METRICS[grade["metric"]].higher_is_better else -1
    best = max(grade["curve"], key=lambda row: sign * row["value"])["freeze_depth"] if grade["curve"] else None
    recommended = summary["depth_curve"][summary["recommendation"]["row"]]
    behind = 100 * sign * (grade["best"]["value"] - recommended["test"][grade["metric"]]["value"])
    half = None if best is None else "early" if best <= stages / 2 else "late"
    return {
        "study": case.name,
        "group": _GROUPS[case.looked_at],
        "backbone": summary["backbone"],
        "dataset": summary["dataset"]["name"],
        "n": sum(summary["dataset"]["counts"]["train"].values()),
        "metric": grade["metric"],
        "best": grade["best"]["label"],
        "best_depth": best,
        "known_answer": case.answer,
        "answer_held": half == case.answer if case.answer and half else None,
        "recommended": recommended["label"],
        "regret": {row["name"]: row["regret"] for row in grade["advice"]} | {"sweep": behind},
        "against_sweep": {row["name"]: row["against_sweep"] for row in grade["advice"]},
        "tau": {row["name"]: row["tau"] for row in grade["scores"]},
        "advice_seconds": said["seconds"],
        "sweep_seconds": grade["sweep_seconds"],
    }


def _total(rows: Sequence[Mapping[str, Any]], what: str, group: str) -> list[dict[str, Any]]:
    """Median and worst of each advice (regret, points) or score (tau) over the studies of the group where it has a value."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in (row for row in rows if row["group"] == group):
        for name, value in row[what].items():
            if value is not None:
                found[name].append(value)
    worst = max if what == "regret" else min
    totals = [
        {"what": what, "group": group, "name": name, "median": statistics.median(values), "worst": worst(values), "n": len(values)}
        for name, values in found.items()
    ]
    return sorted(totals, key=lambda row: row["median"], reverse=what == "tau")


def _print(rows: Sequence[Mapping[str, Any]], totals: Sequence[Mapping[str, Any]]) -> None:
    names = ("ours", "probe", "folklore", "last", "everything", "random", "sweep")
    table = Table("study", "n", "known", *names, title="regret, points")
    for row in rows:
        known = "" if row["answer_held"] is None else f"{row['known_answer']}: {'held' if row['answer_held'] else 'did not hold'}"
        cells = ["–" if row["regret"].get(name) is None else f"{row['regret'][name]:.1f}" for name in names]
        table.add_row(row["study"], str(row["n"]), known, *cells)
    Console().print(table)
    for what, title in (("regret", "regret of each advice, points"), ("tau", "Kendall's tau of each score")):
        table = Table("studies", "name", "median", "worst", "n", title=title)
        for row in totals:
            if row["what"] == what:
                table.add_row(row["group"], row["name"], f"{row['median']:.2f}", f"{row['worst']:.2f}", str(row["n"]))
        Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
