"""What `make demo` costs: time of a first and a second run, peak memory, compilation cold and warm, and the start of --help.

    python -m benchmarks.demo [--quick]

Every run is a process of its own with caches in a temporary folder, so the first is cold. Quick: 200 images of 32 px,
depths 16 and all, one rate, one seed, one epoch, no record.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.record import write_record

_ROOT = Path(__file__).parent.parent
_QUICK = (
    "--config.data.limit=200",
    "--config.data.image_size=32",
    "--config.sweep.freeze_depths=16,all",
    "--config.sweep.learning_rates=1e-3",
    "--config.sweep.seeds=0",
    "--config.train.epochs=1",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 images of 32 px, depths 16 and all, one epoch, no record")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        rows, curve = _measure(Path(folder), _QUICK if quick else ())
    table = Table("what", "value", "unit", "goal")
    for row in rows:
        table.add_row(row["what"], f"{row['value']:.2f}", row["unit"], row["goal"])
    Console().print(table)
    found = Table("plan", "test, mean over seeds", "seconds a trial", "trained parameters")
    for row in curve:
        score, mark = row["test"], " (recommended)" if row["recommended"] else ""
        bounds = f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
        found.add_row(row["plan"] + mark, bounds, f"{row['seconds']:.1f}", f"{row['trainable_parameters']:,.0f}")
    Console().print(found)
    if not quick:
        print(f"record: {write_record('demo', [*rows, *curve])}")


def _measure(folder: Path, flags: tuple[str, ...]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What it costs, and the depth curve that it buys."""
    first = _run(folder / "first", folder / "cache", flags)
    again = _run(folder / "first", folder / "cache", flags)
    warm = _run(folder / "warm", folder / "cache", (*flags, "--config.train.epochs=1"))
    help_seconds = min(_seconds([sys.executable, "-m", "fteng.main", "--help"], {}) for _ in range(3))
    phases = first["phases"]
    rows = [
        ("first run, whole process", first["seconds"], "s", "< 240"),
        ("second run, nothing to do", again["seconds"], "s", "< 15"),
        ("peak memory of the study", first["peak_bytes"] / 2**30, "GiB", "< 4"),
        ("compile all plans, cold", phases["compile"], "s", "< 30"),
        ("compile all plans, warm", warm["phases"]["compile"], "s", "near 0"),
        ("probes of all taps and the pass before them", phases["probes"], "s", ""),
        ("all trials", phases["trials"], "s", ""),
        ("--help, best of 3", help_seconds, "s", "< 1"),
    ]
    return [{"what": what, "value": value, "unit": unit, "goal": goal, "n": 1} for what, value, unit, goal in rows], first["curve"]


def _run(workdir: Path, cache: Path, flags: tuple[str, ...]) -> dict[str, Any]:
    """One study in a process of its own, and what its summary says of it."""
    command = [sys.executable, "-m", "fteng.main", "--config=configs/demo.py", f"--workdir={workdir}", *flags]
    seconds = _seconds(command, {"FTENG_CACHE": str(cache)})
    summary = json.loads((workdir / "report" / "summary.json").read_text(encoding="utf-8"))
    choice, run = summary["recommendation"], summary["run"]
    curve = [
        {
            "plan": row["label"],
            "recommended": index == choice["row"],
            "test": row["test"][choice["metric"]],
            "learning_rate": row["learning_rate"],
            "seconds": row["cost"]["seconds"],
            "trainable_parameters": row["cost"]["trainable_parameters"],
        }
        for index, row in enumerate(summary["depth_curve"])
    ]
    return {"seconds": seconds, "peak_bytes": run["peak_bytes"], "phases": run["seconds_by_phase"], "curve": curve}


def _seconds(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=_ROOT, env=os.environ | environment, check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
