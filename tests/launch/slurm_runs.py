"""What tests on the SLURM box share: the launcher's command, the scheduler's answers, who is at work."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fteng.errors import UserError
from launch.status import Row, standing
from tests.study_runs import QUICK

BOX = Path(__file__).with_name("slurm_box.sh")
FLAGS = (*QUICK, "--config.sweep.freeze_depths=12,16,all", "--config.sweep.learning_rates=1e-3", "--config.sweep.seeds=0")


def slurm(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def command(workdir: Path, *flags: str) -> list[str]:
    base = ("--config=configs/digits.py", f"--workdir={workdir}", *FLAGS, "--executor=slurm", "--config.launch.cpus=1")
    return [sys.executable, "-m", "launch.sweep", *base, *flags]


def until(condition: Callable[[], Any], seconds: float = 240) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError(f"{condition} did not come true in {seconds} s")


def running(workdir: Path) -> list[tuple[Row, dict[str, Any]]]:
    """(unit, beat) of units that a worker trains at this moment."""
    try:
        rows = standing(workdir)
    except (FileNotFoundError, UserError):
        # Not laid out yet.
        return []
    return [(row, beat) for row in rows.rows for beat in rows.workers if row.state == "running" and beat["unit"] == row.unit.name]
