"""Runs `python -m fteng.main` as a user does, in a process of its own, on a twin of configs/digits.py that takes seconds."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
# A list that is given twice is joined, so what asks for depths of its own starts from these.
QUICK = (
    "--config.data.limit=200",
    "--config.data.image_size=32",
    "--config.train.epochs=2",
    "--config.train.checkpoint_every=2",
    "--config.judge.resamples=500",
)
TINY = (*QUICK, "--config.sweep.freeze_depths=16,all", "--config.sweep.learning_rates=1e-3", "--config.sweep.seeds=0")


def command(workdir: Path, *flags: str, config: str = "configs/digits.py", base: tuple[str, ...] = TINY) -> list[str]:
    return [sys.executable, "-m", "fteng.main", f"--config={config}", f"--workdir={workdir}", *base, *flags]


def run(
    workdir: Path, *flags: str, config: str = "configs/digits.py", base: tuple[str, ...] = TINY, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(workdir, *flags, config=config, base=base),
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=280,
    )


def launched(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m launch.sweep`, which has ended."""
    command = [sys.executable, "-m", "launch.sweep", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=280)


def in_parts(workdir: Path) -> tuple[str, ...]:
    """The arguments that make of `run` a study in parts."""
    return ("--config=configs/digits.py", f"--workdir={workdir}", *TINY)
