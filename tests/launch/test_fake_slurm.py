"""The launcher and launch/job.sbatch against stand-ins for SLURM's commands."""

import os
import shlex
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from fteng import paths
from fteng.config import Config, LaunchConfig, SweepConfig, to_dict
from fteng.errors import UserError
from fteng.jobs.__main__ import main as part_of_a_study
from fteng.jobs.claims import write_plan
from fteng.jobs.files import JobFiles
from fteng.locks import take
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
    paths.write_json(study.surveyed, {})
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


# As slurmstepd reads --output, then the job as job 7.
RUNS_THE_JOB = """
import os, re, subprocess, sys
options = dict(word[2:].partition("=")[::2] for word in sys.argv[1:] if word.startswith("--"))
if "test-only" in options:
    sys.exit()
words, path = [word for word in sys.argv[1:] if not word.startswith("--")], options["output"]
symbols = {"%": "%", "x": options["job-name"], "j": "7"}
log = path.replace("\\\\", "") if "\\\\" in path else re.sub("%(.)", lambda found: symbols[found[1]], path)
given = os.environ | {"SLURM_SUBMIT_DIR": os.getcwd(), "SLURM_JOB_ID": "7"}
with open(log, "ab") as out:
    subprocess.run(["bash", *words], env=given, stdout=out, stderr=out, check=True)
print(7)
"""


@pytest.mark.parametrize("name", ["a 0", 'a"=0"', "a'; echo foo", "50%j", "100%%", "$(touch x)", "a*[b]", "-n"])
def test_a_work_directory_of_any_name_arrives_whole_and_its_logs_are_found(tmp_path, tools, name):
    (tmp_path / "sbatch.py").write_text(RUNS_THE_JOB)
    tools("sbatch", f'exec {sys.executable} {tmp_path}/sbatch.py "$@"')
    tools("srun", f"printf '%s\\0' \"$@\" > {tmp_path}/step; echo 'fteng: reached'")
    cluster = slurm.Slurm(tmp_path / name, CONFIG.launch)
    assert cluster.submit(1, surveyed=True) == ["7", "7"]
    step = (tmp_path / "step").read_text().split("\0")[:-1]
    assert step[step.index(sys.executable) :] == [
        sys.executable,
        "-m",
        "fteng.jobs",
        f"{tmp_path / name}",
        "report",
        "--worker",
        "slurm-7",
        "--ending",
        f"{tmp_path / name}/launch/workers/slurm-7.ending",
    ]
    log = JobFiles(StudyPaths(tmp_path / name).launch).logs / f"{cluster._name}-report-7.log"
    assert log.read_text() == "fteng: reached\n"
    assert cluster.last_words("report") == f"fteng: reached ({log})"


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("name", ["a\\b", "a\nb"])
def test_a_work_directory_that_switches_patterns_off_is_refused_in_one_line(tmp_path, name):
    with pytest.raises(UserError, match="allowed with slurm: no backslash, no line break") as refused:
        slurm.Slurm(tmp_path / name, CONFIG.launch)
    assert "\n" not in str(refused.value)


def test_a_banner_before_the_number_and_a_cluster_after_it_are_no_number(workdir, tools):
    tools("sbatch", "echo 'Welcome to node 12'; echo '7;east'")
    assert slurm.Slurm(workdir, CONFIG.launch).submit(1, surveyed=True) == ["7", "7"]


def test_what_is_no_number_is_said_and_cancelled_by_name(workdir, tools):
    tools("sbatch", '[[ " $* " != *survey* ]] && echo queued || echo 7')
    tools("scancel", f'echo "$@" >> {workdir.parent}/cancelled')
    cluster = slurm.Slurm(workdir, CONFIG.launch)
    with pytest.raises(UserError, match=r"^sbatch answers 'queued\\n', not a job number; "):
        cluster.submit(1, surveyed=False)
    assert (workdir.parent / "cancelled").read_text() == f"--quiet --name={cluster._name}-work\n--quiet 7\n"


def test_where_the_first_is_refused_there_is_nothing_to_cancel(workdir, tools):
    tools("sbatch", '[[ " $* " == *--test-only* ]] || { echo "sbatch: error: no" >&2; exit 1; }')
    tools("scancel", f"touch {workdir.parent}/cancelled")
    with pytest.raises(UserError, match="sbatch refuses: no; nothing is submitted"):
        slurm.Slurm(workdir, CONFIG.launch).submit(1, surveyed=True)
    assert not (workdir.parent / "cancelled").exists()


def test_ctrl_c_between_two_submissions_leaves_no_job(workdir, tools, monkeypatch):
    tools("sbatch", "echo 7")
    tools("scancel", f'echo "$@" >> {workdir.parent}/cancelled')
    cluster, call = slurm.Slurm(workdir, CONFIG.launch), slurm._call

    def interrupted(*command, **how):
        if command[0] == "sbatch" and command[-1] == "work" and "--test-only" not in command:
            raise KeyboardInterrupt
        return call(*command, **how)

    monkeypatch.setattr(slurm, "_call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cluster.submit(1, surveyed=False)
    assert (workdir.parent / "cancelled").read_text() == f"--quiet --name={cluster._name}-work\n--quiet 7\n"


def test_a_job_that_submits_passes_nothing_of_its_own_on(workdir, tools, monkeypatch):
    for name in (
        "SLURM_ARRAY_JOB_ID",
        "SLURM_RESTART_COUNT",
        "SLURMD_NODENAME",
        "SRUN_DEBUG",
        "SQUEUE_STATES",
        "SCANCEL_INTERACTIVE",
    ):
        monkeypatch.setenv(name, "1")
    for name in ("SLURM_CONF", "SBATCH_QOS"):
        monkeypatch.setenv(name, "mine")
    seen = f"env | grep -E '^(SLURM|SRUN|SBATCH|SQUEUE|SCANCEL)' >> {workdir.parent}/env-"
    for name in ("sbatch", "squeue", "scancel", "scontrol"):
        tools(name, f"{seen}{name}{'; echo x' * (name == 'sbatch')}")
    cluster = slurm.Slurm(workdir, CONFIG.launch)
    with pytest.raises(UserError, match="not a job number"):
        cluster.submit(1, surveyed=True)
    for name in ("sbatch", "squeue", "scancel", "scontrol"):
        assert set((workdir.parent / f"env-{name}").read_text().splitlines()) == {"SBATCH_QOS=mine", "SLURM_CONF=mine"}, name


@pytest.mark.usefixtures("tools")
def test_without_a_plan_the_survey_tells_why(workdir):
    cluster, files = slurm.Slurm(workdir, CONFIG.launch), JobFiles(StudyPaths(workdir).launch)
    for age, (part, line) in enumerate((("report", "no plan yet"), ("survey", "5 starts"))):
        log = files.logs / f"{cluster._name}-{part}-7.log"
        paths.write_text(log, f"fteng: {line}\n")
        os.utime(log, (9 - age, 9 - age))
    assert "no plan yet" in cluster.last_words()
    files.plan.unlink()
    assert "5 starts" in cluster.last_words()


def start(workdir, restarts=0, **more):
    """launch/job.sbatch as job 7, queued again so often."""
    given = {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": str(restarts), **more}
    command = ["bash", "launch/job.sbatch", "python", str(workdir), "work"]
    return subprocess.run(command, cwd=ROOT, env=os.environ | given, check=False, timeout=20, capture_output=True, text=True)


@pytest.mark.parametrize(
    "leaves",
    [
        "",
        "mkdir -p probes trials/$RANDOM; echo $RANDOM > probes/a.parquet; touch probes/.$RANDOM; echo {} >> trials/x.jsonl",
    ],
)
def test_a_job_that_never_gets_on_is_not_queued_for_ever(tmp_path, tools, leaves):
    workdir = tmp_path / 'a\'; echo 50%j "$(touch x)"'
    (workdir / "launch").mkdir(parents=True)
    tools("scontrol", f'[[ $1 != requeue ]] || echo "$@" >> {tmp_path}/requeued')
    tools("srun", f"cd {shlex.quote(str(workdir))} && {leaves or 'true'}; exit 143")
    # What the first leaves, if only that it left nothing, is what the others are held against.
    last = 5
    for restarts in range(last):
        assert start(workdir, restarts).returncode == 143
    ended = start(workdir, last)
    assert (ended.returncode, ended.stderr) == (1, "fteng: 5 starts without a checkpoint or a result; raise launch.time\n")
    assert (tmp_path / "requeued").read_text() == "requeue 7\n" * last
    # Submitted anew it is another job, though a scheduler may begin to count again.
    assert start(workdir, 0).returncode == 143


def test_a_preempted_job_that_gets_on_goes_on_for_ever(tmp_path, tools):
    (tmp_path / "launch").mkdir()
    tools("srun", f"mkdir -p {tmp_path}/trials/a/checkpoints/running/$SLURM_RESTART_COUNT; exit 143")
    assert [start(tmp_path, restarts).returncode for restarts in range(8)] == [143] * 8
    # In its last start before the limit it may, at last, have saved.
    tools("srun", "exit 143")
    assert [start(tmp_path, restarts).returncode for restarts in range(8, 12)] == [143] * 4
    tools("srun", f"touch {tmp_path}/trials/a/result.json; exit 143")
    assert start(tmp_path, 12).returncode == 143


def test_the_job_waits_for_its_name_and_passes_its_cores_on(tmp_path, tools):
    tools("srun", f'echo "$@" >> {tmp_path}/steps; [[ $(wc -l < {tmp_path}/steps) -gt 1 ]] || exit 75')
    tools("sleep", f"echo $1 > {tmp_path}/slept")
    given = {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "3"}
    command = ["bash", "launch/job.sbatch", "python", str(tmp_path / "work"), "work"]
    assert subprocess.run(command, cwd=ROOT, env=os.environ | given, check=False, timeout=20).returncode == 0
    step = f"--kill-on-bad-exit=1 --cpus-per-task=3 python -m fteng.jobs {tmp_path}/work work --worker slurm-7"
    step += f" --ending {tmp_path}/work/launch/workers/slurm-7.ending"
    assert (tmp_path / "steps").read_text().splitlines() == [step, step]
    assert (tmp_path / "slept").read_text() == "10\n"
    without = {name: value for name, value in (os.environ | given).items() if name != "SLURM_CPUS_PER_TASK"}
    assert subprocess.run(command, cwd=ROOT, env=without, check=False, timeout=20).returncode == 0
    assert "--cpus-per-task" not in (tmp_path / "steps").read_text().splitlines()[-1]


@pytest.mark.parametrize("status", [2, 75, 143])
def test_what_the_first_rank_ended_with_counts_where_srun_tells_of_the_others(tmp_path, tools, status):
    """It kills them for it, and may say 137."""
    ending = tmp_path / "launch" / "workers" / "slurm-7.ending"
    first = f"touch {tmp_path}/again; echo {status} > {ending}; exit 137"
    tools("srun", f"[[ ! -e {ending} ]] || exit 9; [[ -e {tmp_path}/again ]] || {{ {first}; }}")
    tools("sleep", "true")
    tools("scontrol", f'[[ $1 != requeue ]] || echo "$@" >> {tmp_path}/requeued')
    ending.parent.mkdir(parents=True)
    assert start(tmp_path).returncode == {2: 2, 75: 0, 143: 143}[status]
    assert (tmp_path / "requeued").exists() == (status == 143)


def test_a_rank_writes_what_it_ended_with_and_the_first_one_stays(tmp_path, capsys):
    ending = tmp_path / "ending"
    words = [str(tmp_path), "work", "--ending", str(ending)]
    assert part_of_a_study(words) == 2
    assert ending.read_text() == "2\n"
    ending.write_text("75\n")
    assert part_of_a_study(words) == 2
    assert ending.read_text() == "75\n"
    assert "config.json is missing" in capsys.readouterr().err
