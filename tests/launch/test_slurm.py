"""On a real SLURM of four nodes on this machine: preemption, a kill, a drained node, refusals."""

import json
import os
import re
import subprocess
import sys

import pytest

from fteng.jobs.files import JobFiles
from fteng.paths import StudyPaths, read_json
from launch.status import standing
from tests.launch.slurm_runs import FLAGS, command, running, slurm, until
from tests.study_runs import QUICK, ROOT, run
from tests.test_study import outcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def events(workdir):
    """What has happened to units so far."""
    histories = JobFiles(StudyPaths(workdir).launch).root.glob("units/*.jsonl")
    return [json.loads(line) for path in histories for line in path.read_text().splitlines()]


@pytest.mark.usefixtures("box")
def test_preempted_killed_and_drained_it_ends_as_undisturbed(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    launcher = subprocess.Popen(command(parts, "--config.launch.workers=2"), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    # One worker dies without a word: its job's script writes it down and starts it again.
    _, beat = until(lambda: running(parts))[0]
    os.kill(beat["pid"], 9)
    # Not before that stands: who takes the whole job away takes the witness too.
    until(lambda: "died" in {event["event"] for event in events(parts)})
    # Another gets a node's time asked for by a job of a higher partition: it saves and is queued again.
    until(lambda: running(parts))
    job = slurm("squeue", "-h", "-t", "R", "-o", "%A %N").split("\n")[0].split()
    urgent = slurm("sbatch", "--parsable", "-p", "high", "--exclusive", "-w", job[1], "-o", "/dev/null", "--wrap", "sleep 5")
    until(
        lambda: slurm("squeue", "-h", "-t", "R", "-j", urgent) or "JobState=COMPLETED" in slurm("scontrol", "show", "job", urgent)
    )
    # And a node is taken away for good.
    slurm("scontrol", "update", "nodename=n4", "state=drain", "reason=test")
    said = launcher.communicate(timeout=600)[1]
    slurm("scontrol", "update", "nodename=n4", "state=resume")
    assert launcher.returncode == 0, said
    assert run(whole, base=FLAGS).returncode == 0
    assert outcome(parts) == outcome(whole)
    told = events(parts)
    assert any(event["event"] == "died" and "status 137" in event["why"] for event in told), told
    done = [event for event in told if event["event"] == "done"]
    assert len(done) == len(standing(parts).rows)


@pytest.mark.usefixtures("box")
def test_two_nodes_share_each_trial(tmp_path):
    """A job of two tasks on two nodes: one worker, one study; equal to float rounding."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    # A list that is given twice is joined: this one stands alone.
    one = (*QUICK, "--config.sweep.freeze_depths=16", "--config.sweep.learning_rates=1e-3", "--config.sweep.seeds=0")
    resources = ("--executor=slurm", "--config.launch.cpus=1", "--config.launch.workers=1", "--config.launch.nodes=2")
    flags = ("--config=configs/digits.py", f"--workdir={parts}", *one, *resources)
    ended = subprocess.run(
        [sys.executable, "-m", "launch.sweep", *flags], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert run(whole, base=one).returncode == 0
    for trial in read_json(whole / "report" / "summary.json")["trials"]:
        mine = next(row for row in read_json(parts / "report" / "summary.json")["trials"] if row["id"] == trial["id"])
        assert mine["val"]["log_loss"] == pytest.approx(trial["val"]["log_loss"], rel=1e-3)
    log = "\n".join(path.read_text() for path in JobFiles(StudyPaths(parts).launch).logs.glob("*work*.log"))
    assert "Traceback" not in log


@pytest.mark.usefixtures("box")
def test_what_the_scheduler_refuses_is_one_line_and_nothing_is_submitted(tmp_path):
    for flag, said in (("partition=nosuch", "invalid partition specified: nosuch"), ("cpus=400", "sbatch refuses: ")):
        asked = subprocess.run(command(tmp_path, f"--config.launch.{flag}"), cwd=ROOT, capture_output=True, text=True, check=False)
        assert asked.returncode == 2
        assert said in asked.stderr
        assert asked.stderr.count("\n") == 1
        assert slurm("squeue", "-h") == ""


@pytest.mark.usefixtures("box")
def test_detached_jobs_are_seen_once_and_cancelled(tmp_path):
    first = subprocess.run(command(tmp_path, "--detach"), cwd=ROOT, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    jobs = slurm("squeue", "-h", "-r", "-o", "%i")
    second = subprocess.run(command(tmp_path, "--detach"), cwd=ROOT, capture_output=True, text=True, check=False)
    assert "are alive: watching them" in second.stderr
    assert set(slurm("squeue", "-h", "-r", "-o", "%i").split()) <= set(jobs.split())
    shown = subprocess.run(
        [sys.executable, "-m", "launch.sweep", "status", f"--workdir={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    # On a busy machine the survey may be over before it is asked.
    assert re.search(r"\(work\): (pending|running)", shown.stdout)
    subprocess.run(
        [sys.executable, "-m", "launch.sweep", "cancel", f"--workdir={tmp_path}"], cwd=ROOT, check=True, capture_output=True
    )
    until(lambda: not slurm("squeue", "-h"), 60)
