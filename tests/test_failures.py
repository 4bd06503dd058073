"""What ends a study before its time: kills at random moments, a full disk, a rival. Real processes, real disks."""

import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from tests.study_runs import ROOT, command, run
from tests.test_study import outcome

pytestmark = pytest.mark.slow
_KILLS = 12


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    ended = run(workdir)
    assert ended.returncode == 0, ended.stderr
    return workdir


def test_sigkill_at_random_moments_changes_nothing(undisturbed, tmp_path):
    """Killed again and again without a word, the study ends with the same metrics and logits, bit for bit."""
    rng = random.Random(0)
    workdir = tmp_path / "killed"
    killed = 0
    for _ in range(_KILLS):
        process = subprocess.Popen(command(workdir), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=rng.uniform(3, 14))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
        else:
            assert process.returncode == 0
            shutil.rmtree(workdir)
    assert killed >= _KILLS // 3
    ended = run(workdir)
    assert ended.returncode == 0, ended.stderr
    assert outcome(workdir) == outcome(undisturbed)
    assert not list(workdir.glob("trials/*/checkpoints/running"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_is_one_line_and_nothing_is_lost(undisturbed, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    # Room for the probes and the shallow trial; the checkpoints of the deeper one (a few MB each) do not fit.
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=7m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("this machine does not let root mount a disk")
    try:
        full = run(disk / "work")
        assert full.returncode == 2
        assert "Traceback" not in full.stderr
        assert "is full" in full.stderr or "No space left" in full.stderr
        assert "run the same command again" in full.stderr
        kept = [path.parent for path in disk.glob("work/trials/*/result.json")]
        assert kept
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        again = run(disk / "work")
        assert again.returncode == 0, again.stderr
        assert f"{2 - len(kept)} of 2 trials to run" in again.stderr
        assert outcome(disk / "work") == outcome(undisturbed)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_two_studies_on_one_directory(tmp_path):
    workdir = tmp_path / "shared"
    first = subprocess.Popen(command(workdir), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (workdir / "study.json").exists() and first.poll() is None:
        time.sleep(0.05)
    second = run(workdir)
    assert second.returncode == 2
    assert "is running in" in second.stderr
    assert second.stderr.count("\n") == 1
    assert first.wait(timeout=280) == 0
