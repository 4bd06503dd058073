"""Does a race find what the whole sweep finds, where deep tuning can win and where it cannot, and what does it save?

    python -m benchmarks.race [--quick] [--studies=DIR] [--minutes=N]

Studies of `benchmarks.collection`, each swept and raced with the same trials (two rates, one seed: fewer than usual, so a race can
save less than with more). What each recommends was chosen on validation; its regret is read off the test scores of
the sweep: points behind the best plan there. `share`: of the sweep's epochs that the race trained; seconds are of trials alone. In
DIR finished studies are not run again. Quick: one small study, no record.
"""

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.collection import cases_of, options, run
from benchmarks.record import write_record
from fteng.analysis.metrics import METRICS


def main() -> int:
    rows: list[dict[str, Any]] = []
    with options(__doc__, "one small study") as of:
        for case in of.until(cases_of(of.quick)[: 1 if of.quick else None]):
            swept = run(case, of.where)
            raced = swept and run(case, of.where, "--config.sweep.search=race")
            if not swept or not raced:
                return 1
            rows.append({"study": case.name, **_compared(swept, raced)})
            print(rows[-1], flush=True)
    table = Table("study", "best", "sweep", "race", "share", title="regret, points")
    for row in rows:
        told = (f"{row[name]['regret']:.1f}: {row[name]['recommended']}" for name in ("sweep", "race"))
        table.add_row(row["study"], row["best"], *told, f"{row['share']:.2f}")
    Console(width=160).print(table)
    if not of.quick:
        print(f"record: {write_record('race', rows)}")
    return 0


def _compared(swept: Mapping[str, Any], raced: Mapping[str, Any]) -> dict[str, Any]:
    grade = swept["similarity"]["grade"]
    metric, best = grade["metric"], grade["best"]
    sign = 1 if METRICS[metric].higher_is_better else -1
    values = {row["label"]: row["test"][metric]["value"] for row in swept["depth_curve"]}

    def told(summary: Mapping[str, Any]) -> dict[str, Any]:
        label = summary["depth_curve"][summary["recommendation"]["row"]]["label"]
        seconds = sum(trial["cost"]["seconds"] for trial in summary["trials"] if trial["cost"])
        return {"recommended": label, "regret": 100 * sign * (best["value"] - values[label]), "seconds": seconds}

    sweep, race = told(swept), told(raced)
    return {
        "n": sum(swept["dataset"]["counts"]["train"].values()),
        "metric": metric,
        "best": best["label"],
        "sweep": sweep,
        "race": race,
        "race_loses": race["regret"] - sweep["regret"],
        "share": raced["race"]["epochs_run"] / raced["race"]["epochs_exhaustive"],
        "goal": "<= 1",
    }


if __name__ == "__main__":
    sys.exit(main())
