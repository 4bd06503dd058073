"""A study in parts is the study, to the bit, whoever is killed or cancelled on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from fteng import paths
from fteng.jobs.files import JobFiles
from fteng.paths import StudyPaths
from launch import control
from launch.status import standing
from tests.study_runs import ROOT, in_parts, launched, run
from tests.test_study import outcome


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same study in one process."""
    workdir = tmp_path_factory.mktemp("whole")
    ended = run(workdir)
    assert ended.returncode == 0, ended.stderr
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["debug", "local"])
def test_a_study_in_parts_is_the_study_to_the_bit(executor, whole, tmp_path):
    ended = launched(*in_parts(tmp_path), f"--executor={executor}", "--config.launch.workers=2")
    assert ended.returncode == 0, ended.stderr
    assert outcome(tmp_path) == outcome(whole)
    assert "recommended: " in ended.stdout
    again = launched(*in_parts(tmp_path), f"--executor={executor}", "--config.launch.workers=2")
    assert again.returncode == 0, again.stderr
    assert standing(tmp_path).left == 0


def _until_claimed(files: JobFiles, launcher: subprocess.Popen[Any]) -> None:
    """A worker has begun a unit, or the launcher has ended."""
    while not any(files.root.glob("units/*.lock")) and launcher.poll() is None:
        time.sleep(0.05)


@pytest.mark.slow
def test_launchers_and_workers_are_killed_and_two_launchers_share(whole, tmp_path):
    """One worker killed under a launcher, the launcher itself killed, then two at once: nothing twice, nothing lost."""
    command = [sys.executable, "-m", "launch.sweep", *in_parts(tmp_path)]
    first = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    files = JobFiles(StudyPaths(tmp_path).launch)
    _until_claimed(files, first)
    worker = next(files.root.glob("workers/*.json"))
    os.kill(paths.read_json(worker)["pid"], signal.SIGKILL)
    first.kill()
    first.wait()
    both = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=200)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert outcome(tmp_path) == outcome(whole)
    for history in files.root.glob("units/*.jsonl"):
        events = [json.loads(line)["event"] for line in history.read_text().splitlines()]
        assert events.count("done") == 1


@pytest.mark.slow
def test_a_broken_trial_is_given_up_and_the_report_says_so_until_it_is_retried(whole, tmp_path):
    shallow = next(path.name for path in whole.glob("trials/depth16-*"))
    (tmp_path / "trials").mkdir()
    # Where its files should go stands a file.
    (tmp_path / "trials" / shallow / "checkpoints").mkdir(parents=True)
    (tmp_path / "trials" / shallow / "checkpoints" / "running").write_text("in the way")
    ended = launched(*in_parts(tmp_path), "--config.launch.tries=2")
    assert ended.returncode == 0, ended.stderr
    assert f"given up: {shallow}" in ended.stderr
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    trial = next(row for row in summary["trials"] if row["id"] == shallow)
    assert trial["status"] == "failed"
    assert trial["note"].startswith("given up after 2 tries: ")
    assert "given up after 2 tries" in (tmp_path / "report" / "index.html").read_text()
    (tmp_path / "trials" / shallow / "checkpoints" / "running").unlink()
    assert launched("retry", f"--workdir={tmp_path}").returncode == 0
    ended = launched(*in_parts(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert outcome(tmp_path) == outcome(whole)


@pytest.mark.slow
def test_cancel_saves_and_the_same_command_goes_on(whole, tmp_path):
    command = [sys.executable, "-m", "launch.sweep", *in_parts(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    files = JobFiles(StudyPaths(tmp_path).launch)
    _until_claimed(files, process)
    # In this process: what a new one takes to begin, the study may take to end.
    assert control.cancel(tmp_path) == 0
    said = process.communicate(timeout=100)[1]
    assert process.returncode == 143, said
    ended = launched(*in_parts(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert outcome(tmp_path) == outcome(whole)
