"""What a study costs as its work grows: more images, more freeze depths, more seeds.

    python -m benchmarks.growth [--quick]

EfficientNet-Lite0 at 32 px on the digits, one learning rate, two epochs; each study in a process of its own that finds its steps
compiled. From a study in the middle one number grows or shrinks at a time. `slope`: of log seconds over log work, from the smallest
to the largest study; 1 is linear. Goals: at most linear in images and seeds, and probes hardly care for seeds and depths. (Trials
over depths have none: each further depth trains more than all before.) Quick: two small studies, no record.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.record import write_record

_ROOT = Path(__file__).parent.parent
_DEPTHS = ("all", "16", "12", "8", "4", "0")
_MIDDLE = {"images": 400, "depths": 3, "seeds": 2}
_GOALS = {
    ("trials", "images"): "< 1.1",
    ("trials", "seeds"): "< 1.1",
    ("trials", "depths"): "",
    ("probes", "images"): "< 1.1",
    ("probes", "seeds"): "< 0.2",
    ("probes", "depths"): "< 0.2",
}
_GROWS = {"images": (100, 400, 1600), "depths": (1, 3, 6), "seeds": (1, 2, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small studies, no record")
    quick = parser.parse_args().quick
    grows = {"images": (100, 200)} if quick else _GROWS
    middle = _MIDDLE | ({"depths": 1, "seeds": 1} if quick else {})
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        done: dict[tuple[int, ...], dict[str, float]] = {}
        for what, values in grows.items():
            for value in values:
                size = middle | {what: value}
                key = tuple(size.values())
                if key not in done:
                    # The first leaves the compiled steps and prepared images, the second is timed.
                    _study(Path(folder), size)
                    done[key] = _study(Path(folder), size)
                rows.append({"grows": what, "value": value, "n": 1, **done[key]})
                print(rows[-1], flush=True)
    slopes = [
        {"slope_of": phase, "over": what, "n": len(values), "slope": _slope(rows, what, phase), "goal": _GOALS[phase, what]}
        for what, values in grows.items()
        for phase in ("trials", "probes")
    ]
    table = Table("grows", "to", "seconds of probes", "seconds of trials")
    for row in rows:
        table.add_row(row["grows"], str(row["value"]), f"{row['probes']:.1f}", f"{row['trials']:.1f}")
    Console().print(table)
    found = Table("slope of", "over", "slope", "goal")
    for row in slopes:
        found.add_row(row["slope_of"], row["over"], f"{row['slope']:.2f}", row["goal"])
    Console().print(found)
    if not quick:
        print(f"record: {write_record('growth', [*rows, *slopes])}")


def _study(folder: Path, size: dict[str, int]) -> dict[str, float]:
    """Seconds by phase."""
    with tempfile.TemporaryDirectory() as workdir:
        flags = (
            "--config=configs/digits.py",
            f"--workdir={workdir}/study",
            f"--config.data.limit={size['images']}",
            "--config.data.image_size=32",
            "--config.train.epochs=2",
            "--config.judge.resamples=200",
            f"--config.sweep.freeze_depths={','.join(_DEPTHS[: size['depths']])}",
            "--config.sweep.learning_rates=1e-3",
            f"--config.sweep.seeds={','.join(map(str, range(size['seeds'])))}",
        )
        told = {"FTENG_CACHE": str(folder / "cache")}
        command = [sys.executable, "-m", "fteng.main", *flags]
        subprocess.run(command, cwd=_ROOT, env=os.environ | told, check=True, capture_output=True)
        summary = json.loads((Path(workdir) / "study" / "report" / "summary.json").read_text(encoding="utf-8"))
    phases = summary["run"]["seconds_by_phase"]
    return {name: phases[name] for name in ("probes", "trials")}


def _slope(rows: list[dict[str, Any]], what: str, phase: str) -> float:
    mine = [row for row in rows if row["grows"] == what]
    first, last = mine[0], mine[-1]
    return math.log(last[phase] / first[phase]) / math.log(last["value"] / first["value"])


if __name__ == "__main__":
    main()
