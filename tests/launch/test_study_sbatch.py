"""launch/study.sbatch as SLURM runs it: a signal to the batch shell, then a requeue by name; scontrol is a stand-in."""

import os
import signal
import subprocess
import time

import pytest

from tests.study_runs import ROOT, TINY

pytestmark = pytest.mark.slow


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
