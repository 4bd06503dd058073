"""The launcher and launch/job.sbatch against stand-ins for SLURM's commands."""

import os
import subprocess
import threading
from dataclasses import replace

import pytest

from fteng import paths
from fteng.config import Config, LaunchConfig, SweepConfig, to_dict
from fteng.errors import UserError
from fteng.jobs.claims import write_plan
from fteng.jobs.files import JobFiles, take
from fteng.paths import StudyPaths
from fteng.trials import TrialWork
from launch import slurm, sweep
from launch.local import Ended
from launch.watch import Watch
from tests.study_runs import ROOT

CONFIG = Config(launch=LaunchConfig(workers=2))


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Sets what a command of SLURM does. sbatch writes its arguments and answers 7; the others say nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def set_tool(name, text):
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)

    for name in ("squeue", "scancel", "scontrol"):
        set_tool(name, "")
    set_tool("sbatch", f'[[ " $* " == *--test-only* ]] || echo "$@" >> {tmp_path}/asked; echo 7')
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(sweep, "_SECONDS_BETWEEN_POLLS", 0.01)
    return set_tool


@pytest.fixture
def workdir(tmp_path):
    """A planned study of one trial, which has ended; no report."""
    root = tmp_path / "work"
    files, study = JobFiles(StudyPaths(root).launch), StudyPaths(root)
    paths.write_json(files.config, {"config": to_dict(CONFIG), "command": "x", "added": []})
    paths.write_json(study.study, {"trials": [{"id": "a"}], "versions": {}, "git": "none"})
    write_plan(files, [TrialWork("a", "x/0", 0, 1.0, 0.0)], CONFIG)
    paths.write_json(study.trial("a").result, {"status": "done"})
    return root


def asked(workdir):
    """Parts that were submitted."""
    return [line.rpartition(" ")[2] for line in (workdir.parent / "asked").read_text().splitlines()]


@pytest.mark.usefixtures("tools")
def test_an_extended_study_is_surveyed_again(workdir):
    longer = replace(CONFIG, sweep=SweepConfig(seeds=(5, 6)))
    assert sweep._run(longer, workdir, "slurm", "x", detach=True) == 0
    assert asked(workdir) == ["survey", "work", "report"]


@pytest.mark.usefixtures("tools")
def test_a_surveyed_one_is_not_and_two_chains_without_a_trial_more_are_enough(workdir):
    with pytest.raises(Ended, match=r"^fteng: 2 chains of jobs ended without a trial more: see the logs"):
        sweep._run(CONFIG, workdir, "slurm", "x", detach=False)
    assert asked(workdir) == ["work", "report"] * 2


def test_a_survey_that_the_user_can_mend_ends_the_launcher_with_its_line(workdir, tools):
    tools("scontrol", 'echo "JobId=7 JobState=FAILED Reason=NonZeroExitCode ExitCode=2:0"')
    longer, files = replace(CONFIG, sweep=SweepConfig(seeds=(5, 6))), JobFiles(StudyPaths(workdir).launch)
    name = slurm.Slurm(workdir, CONFIG.launch)._name
    for part, line in (("survey", "fteng: no such images"), ("report", "fteng: no plan yet")):
        paths.write_text(files.logs / f"{name}-{part}-7.log", f"{line}\n")
    with pytest.raises(Ended, match="no such images") as ended:
        sweep._run(longer, workdir, "slurm", "x", detach=False)
    assert ended.value.status == 2
    assert asked(workdir).count("survey") == 1


def test_a_scheduler_that_is_silent_for_a_while_is_asked_again(workdir, tools, capsys, monkeypatch):
    cluster, file = slurm.Slurm(workdir, CONFIG.launch), workdir.parent / "count"
    tools("squeue", f'echo x >> {file}; [[ $(wc -l < {file}) -gt 3 ]] && echo "7|fteng-work|RUNNING|None"')
    with Watch(workdir) as watch:
        assert sweep._alive(cluster, watch)
        said = " ".join(capsys.readouterr().err.split())
        assert said.count("squeue fails: status 1; is the scheduler up?") == 1
        tools("squeue", "exit 1")
        monkeypatch.setattr(sweep, "_SILENCES", 3)
        with pytest.raises(UserError, match="squeue fails: status 1"):
            sweep._alive(cluster, watch)


def test_cancel_says_what_it_could_not_reach(workdir, tools, capsys):
    tools("squeue", "echo 'no controller' >&2; exit 1")
    files = JobFiles(StudyPaths(workdir).launch)
    # No job of it was ever submitted.
    assert sweep.main(["cancel", f"--workdir={workdir}"]) == 0
    files.cancelled.unlink()
    files.submitting.touch()
    assert sweep.main(["cancel", f"--workdir={workdir}"]) == 2
    assert "squeue fails: no controller" in capsys.readouterr().err
    assert files.cancelled.exists()


@pytest.mark.usefixtures("tools")
def test_a_second_launcher_waits_until_the_first_has_submitted(workdir):
    cluster = slurm.Slurm(workdir, CONFIG.launch)
    theirs = take(JobFiles(StudyPaths(workdir).launch).submitting)
    assert theirs is not None
    threading.Timer(0.2, os.close, [theirs]).start()
    assert cluster.submit(1, surveyed=True) == ["7", "7"]


@pytest.mark.usefixtures("tools")
def test_the_commands_of_a_dry_run_wait_for_each_other(workdir):
    survey, *work, report = slurm.Slurm(workdir, CONFIG.launch).commands(2000, surveyed=False)
    assert not any(word.startswith("--dependency") for word in survey)
    assert [len(work), *("--dependency=afterok:SURVEY" in line for line in work)] == [2, True, True]
    assert "--dependency=afterany:SURVEY:WORK0:WORK1" in report


def test_the_job_waits_for_its_name_and_passes_its_cores_on(tmp_path, tools):
    tools("srun", f'echo "$@" >> {tmp_path}/steps; [[ $(wc -l < {tmp_path}/steps) -gt 1 ]] || exit 75')
    tools("sleep", f"echo $1 > {tmp_path}/slept")
    given = {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "3"}
    command = ["bash", "launch/job.sbatch", "python", str(tmp_path / "work"), "work"]
    assert subprocess.run(command, cwd=ROOT, env=os.environ | given, check=False, timeout=20).returncode == 0
    step = f"--kill-on-bad-exit=1 --cpus-per-task=3 python -m fteng.jobs {tmp_path}/work work --worker slurm-7"
    assert (tmp_path / "steps").read_text().splitlines() == [step, step]
    assert (tmp_path / "slept").read_text() == "10\n"
    without = {name: value for name, value in (os.environ | given).items() if name != "SLURM_CPUS_PER_TASK"}
    assert subprocess.run(command, cwd=ROOT, env=without, check=False, timeout=20).returncode == 0
    assert "--cpus-per-task" not in (tmp_path / "steps").read_text().splitlines()[-1]
