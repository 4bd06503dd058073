"""Random faults on a real SLURM, a schedule a seed: whatever happens, the study ends with the bits of an undisturbed one.

python -m pytest -m nightly
"""

import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.status import standing
from tests.launch.slurm_runs import FLAGS, command, running, slurm, until
from tests.study_runs import ROOT, run
from tests.test_study import outcome

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1200)]
SCHEDULES = 20
NODES = ("n1", "n2", "n3", "n4")
# What a schedule does of its own will is no fault of a unit.
FORGIVING = ("--config.launch.workers=2", "--config.launch.tries=50")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("undisturbed") / "study"
    ended = run(workdir, base=FLAGS)
    assert ended.returncode == 0, ended.stderr
    return workdir


class Schedule:
    """Faults on one study. launcher: alive, or started again."""

    def __init__(self, workdir: Path, seed: int) -> None:
        self.workdir, self.rng, self.said = workdir, random.Random(seed), workdir.with_suffix(".log")
        self.launcher = self.start()
        self.done: list[str] = []

    def start(self) -> "subprocess.Popen[str]":
        with self.said.open("a") as log:
            return subprocess.Popen(command(self.workdir, *FORGIVING), cwd=ROOT, stdout=log, stderr=log, text=True)

    def fault(self) -> None:
        """One of them, after a while."""
        time.sleep(self.rng.uniform(1, 12))
        faults: list[Callable[[], None]] = [self.kill_worker, self.kill_launcher, self.preempt, self.requeue, self.lose_node]
        chosen = self.rng.choice(faults)
        chosen()
        self.done.append(chosen.__name__)

    def kill_worker(self) -> None:
        for _, beat in running(self.workdir)[:1]:
            os.kill(beat["pid"], 9)

    def kill_launcher(self) -> None:
        self.launcher.kill()
        self.launcher.wait()
        self.launcher = self.start()

    def preempt(self) -> None:
        slurm(
            "sbatch",
            "--parsable",
            "-p",
            "high",
            "--exclusive",
            "-w",
            self.rng.choice(NODES),
            "-o",
            "/dev/null",
            "--wrap",
            "sleep 3",
        )

    def requeue(self) -> None:
        jobs = slurm("squeue", "-h", "-r", "-t", "R", "-p", "main", "-o", "%i").split()
        if jobs:
            # It may have ended by now.
            subprocess.run(["scontrol", "requeue", self.rng.choice(jobs)], capture_output=True, check=False)

    def lose_node(self) -> None:
        node = self.rng.choice(NODES)
        slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        time.sleep(2)
        slurm("scontrol", "update", f"nodename={node}", "state=resume")


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_a_schedule_of_faults_changes_nothing(whole, tmp_path, seed):
    schedule = Schedule(tmp_path / "study", seed)
    for _ in range(schedule.rng.randint(2, 6)):
        if schedule.launcher.poll() == 0:
            break
        schedule.fault()
    for _ in range(10):
        status = schedule.launcher.wait(timeout=900)
        if status == 0:
            break
        # Jobs that were lost are submitted again; a launcher gives up after two rounds without progress.
        schedule.launcher = schedule.start()
    assert schedule.launcher.returncode == 0, schedule.said.read_text()
    until(lambda: not slurm("squeue", "-h"), 60)
    assert outcome(tmp_path / "study") == outcome(whole), schedule.done
    assert {row.state for row in standing(tmp_path / "study").rows} == {"done"}
    print(f"schedule {seed}: {', '.join(schedule.done)}")
