"""launch/study.sbatch as SLURM runs it: a signal to the batch shell, then a requeue by name; scontrol is a stand-in."""

import os
import signal
import subprocess
import time

import pytest

from tests.study_runs import ROOT, TINY


@pytest.fixture
def job(tmp_path):
    """Starts the script as job 7 with a scontrol that writes what it is asked."""
    stand_in = tmp_path / "bin" / "scontrol"
    stand_in.parent.mkdir()
    stand_in.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    stand_in.chmod(0o755)
    path = f"{stand_in.parent}:{os.environ['PATH']}"
    environment = os.environ | {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_ID": "7", "PATH": path}

    def start() -> subprocess.Popen[bytes]:
        flags = ("--config=configs/digits.py", f"--workdir={tmp_path / 'work'}", *TINY)
        return subprocess.Popen(["bash", "launch/study.sbatch", *flags], cwd=ROOT, env=environment)

    return start


@pytest.mark.slow
def test_a_signal_saves_and_requeues_and_the_next_start_ends(job, tmp_path):
    first = job()
    while not list(tmp_path.glob("work/trials/*/metrics.jsonl")) and first.poll() is None:
        time.sleep(0.02)
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=120) == 143
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
    assert not (tmp_path / "work" / "report" / "index.html").exists()
    assert job().wait(timeout=200) == 0
    assert (tmp_path / "work" / "report" / "index.html").exists()
    assert (tmp_path / "asked").read_text() == "requeue 7\n"


@pytest.mark.parametrize("given", [("--workdir={}",), ("--workdir", "{}")])
def test_starts_that_leave_nothing_are_not_repeated_for_ever(tmp_path, given):
    """Stand-ins for Python, which is asked to stop at once, and for scontrol."""
    (tmp_path / "work" / "trials" / "a" / "checkpoints" / "running").mkdir(parents=True)
    for name, text in ((".venv/bin/python", "exit 143"), ("bin/scontrol", f"echo asked >> {tmp_path}/asked")):
        stand_in = tmp_path / name
        stand_in.parent.mkdir(parents=True)
        stand_in.write_text(f"#!/bin/sh\n{text}\n")
        stand_in.chmod(0o755)
    told = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "7", "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    arguments = ["bash", str(ROOT / "launch" / "study.sbatch"), *(word.format(tmp_path / "work") for word in given)]

    def start(number: int) -> "subprocess.CompletedProcess[str]":
        env = os.environ | told | {"SLURM_RESTART_COUNT": str(number)}
        return subprocess.run(arguments, env=env, capture_output=True, text=True, timeout=60)

    assert [start(number).returncode for number in range(4)] == [143] * 4
    # One checkpoint, and the count begins anew.
    (tmp_path / "work" / "trials" / "a" / "checkpoints" / "running" / "2").mkdir()
    ended = [start(number) for number in range(4, 10)]
    assert [one.returncode for one in ended] == [143] * 5 + [1]
    assert "5 starts without a checkpoint or a result; raise --time" in ended[-1].stderr
    assert (tmp_path / "asked").read_text().count("asked") == 9
