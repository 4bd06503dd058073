"""python -m launch.sweep as a user types it: what it refuses, what it shows, and that a study in parts is the study."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fteng import paths
from fteng.config import Config, LaunchConfig, SweepConfig, to_dict
from fteng.errors import UserError
from fteng.jobs.claims import pull, write_plan
from fteng.jobs.files import JobFiles
from fteng.locks import take
from fteng.paths import StudyPaths
from fteng.summary import records
from fteng.trials import TrialWork
from launch import control, sweep
from launch.status import is_reported, standing
from tests.study_runs import ROOT, TINY, run
from tests.test_study import outcome


def launch(*arguments, **environment):
    command = [sys.executable, "-m", "launch.sweep", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=280)


@pytest.fixture
def laid_out(tmp_path):
    study = StudyPaths(tmp_path)
    files = JobFiles(study.launch)
    trials = ("a", "b", "c")
    config = Config(launch=LaunchConfig(workers=1, tries=1))
    paths.write_json(files.config, {"config": to_dict(config), "command": "x"})
    paths.write_json(study.study, {"trials": [{"id": trial} for trial in trials], "versions": {}, "git": "none"})
    write_plan(files, [TrialWork(trial, f"x/{trial}", 0, 1.0, 0.0) for trial in trials], config)
    return study


# ml_collections loads a config file in a way that is going out of use.
LOADS = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


@LOADS
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config=configs/digits.py"], "--workdir is missing"),
        (["status"], "--workdir is missing"),
        (["status", "--workdir=/nowhere"], "holds no study in parts; start one with"),
        (["status", "--workdir=/nowhere", "--config=x"], "unexpected argument '--config=x'"),
        (["--workdir={tmp}"], "--config is missing"),
        (["--workdir={tmp}", "--config=configs/nothing.py"], "no file 'configs/nothing.py'"),
        (["--workdir={tmp}", "--config=configs/digits.py", "--config.launch.wokers=3"], "did you mean launch.workers"),
        (["--workdir={tmp}", "--config=configs/digits.py", "--detach"], "--detach: got --executor=local, allowed: slurm"),
        (["--workdir=/proc/nothing", "--config=configs/digits.py"], "cannot write to the work directory /proc/nothing"),
        (["--workdir={tmp}", "--config=configs/digits.py", "--executor=slurm"], "no sbatch on this machine"),
        (["--workdir={tmp}", "--config=configs/digits.py", "--executor=slrum"], "invalid choice: 'slrum'"),
        (["--workdir={tmp}", "--config=configs/digits.py", "--dry_run=yes"], "--dry_run: ignored explicit argument 'yes'"),
        (["--workdir=/dev/null", "--config=configs/digits.py", "--dry_run"], "work directory /dev/null (Not a directory)"),
        (["--workdir=/dev/null", "--config=configs/digits.py"], "work directory /dev/null (Not a directory)"),
    ],
)
def test_what_it_cannot_take_is_one_line_and_nothing_is_left(arguments, said, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    work = tmp_path / "work"
    assert sweep.main([argument.format(tmp=work) for argument in arguments]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1
    assert not work.exists()


def test_help_teaches(capsys):
    assert sweep.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("debug", "local", "slurm", "status|cancel|retry", "--dry_run", "launch.partition"))
    assert "Exit status: 0 done; 1 " in shown


def test_the_status_tells_waiting_running_done_and_failed(laid_out, capsys):
    files = JobFiles(laid_out.launch)
    first = pull(files, laid_out, "w1")
    assert first is not None
    paths.write_json(laid_out.trial(first.trials[0]).result, {"status": "done"})
    first.end("done")
    second = pull(files, laid_out, "w2")
    assert second is not None
    second.end("failed", "ValueError: <boom>")
    assert [row.state for row in standing(laid_out.root).rows] == ["done", "broken", "waiting"]
    third = pull(files, laid_out, "w3")
    assert third is not None
    slot = take(files.slot("w3"))
    assert slot is not None
    beat = {"worker": "w3", "host": "h", "pid": 1, "unit": third.unit.name, "phase": "trials", "share": 0.5, "note": "9 images/s"}
    paths.write_json(files.worker("w3"), beat)
    now = standing(laid_out.root)
    assert {row.state for row in now.rows} == {"done", "failed", "running"}
    assert now.line == "2 of 3 trials ended; units: 1 done, 1 failed, 1 running; 1 workers"
    assert sweep.main(["status", f"--workdir={laid_out.root}"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "50%" in shown
    assert "<boom>" in shown
    os.close(slot)
    third.end("stopped")
    assert sweep.main(["retry", f"--workdir={laid_out.root}"]) == 0
    assert "1 to be tried again" in capsys.readouterr().out
    assert standing(laid_out.root).counts == {"done": 1, "broken": 1, "waiting": 1}


@pytest.mark.parametrize(
    "content", [b"{}", b"null", b"\xff", b"{", b'{"race": 0, "units": [{}]}', b'{"config": [], "command": ""}']
)
@pytest.mark.parametrize(("name", "command"), [("plan.json", "status"), ("plan.json", "retry"), ("config.json", "status")])
def test_a_damaged_file_is_one_line(name, content, command, laid_out, capsys):
    (laid_out.launch / name).write_bytes(content)
    assert sweep.main([command, f"--workdir={laid_out.root}"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert f"{laid_out.launch / name} is " in shown
    assert "delete it and run the same command again" in shown


def test_damaged_lines_and_results_are_passed_over(laid_out, capsys):
    files = JobFiles(laid_out.launch)
    claim = pull(files, laid_out, "w")
    assert claim is not None
    claim.end("failed", "boom")
    for file in (files.history(claim.unit.name), files.ledger):
        with file.open("ab") as lines:
            lines.write(b"{}\nnull\n\xff\n[1]\n")
    laid_out.trial("a").root.mkdir(parents=True)
    laid_out.trial("a").result.write_text("null")
    assert sweep.main(["status", f"--workdir={laid_out.root}"]) == 0
    assert sweep.main(["retry", f"--workdir={laid_out.root}"]) == 0
    assert "1 to be tried again: x-a-0" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_one_line(laid_out, capsys, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied", "mutex")

    monkeypatch.setattr("fteng.jobs.files.os.open", refused)
    for command in ("status", "retry"):
        assert sweep.main([command, f"--workdir={laid_out.root}"]) == 2
        shown = capsys.readouterr().err
        assert shown.startswith("fteng: Permission denied (mutex)")
        assert shown.count("\n") == 1


def test_a_plan_that_is_gone_is_made_again(laid_out):
    files = JobFiles(laid_out.launch)
    assert standing(laid_out.root).surveyed
    files.plan.unlink()
    now = standing(laid_out.root)
    assert (now.surveyed, now.line) == (False, "survey: waiting")


def test_other_settings_wait_for_a_launcher_and_the_same_share(laid_out):
    files, config = JobFiles(laid_out.launch), Config(launch=LaunchConfig(workers=1, tries=1))
    more = dataclasses.replace(config, sweep=SweepConfig(seeds=(7,)))

    def lay_out(config):
        return sweep._laid_out(files, config, "x", lambda: False)

    with lay_out(config), lay_out(config):
        before = files.config.read_text()
        with pytest.raises(UserError, match=r"config has changed since the jobs .* \(sweep\)"), lay_out(more):
            pass
        assert files.config.read_text() == before
    with lay_out(more):
        assert files.config.read_text() != before


def test_a_page_of_other_results_is_no_report(laid_out):
    """By what they hold: clocks of hosts differ, and files are copied."""
    page, summary, result = laid_out.report / "index.html", laid_out.report / "summary.json", laid_out.trial("a").result
    paths.write_json(laid_out.study, {"trials": [{"id": "a"}], "config": {"x": 1}})
    paths.write_json(result, {"status": "done"})
    assert not is_reported(laid_out.root)
    shown = {"run": {"config": {"x": 1}}, "trials": [{"id": "a"}], "records": records(laid_out)}
    paths.write_json(summary, shown)
    paths.write_text(page, "")
    os.utime(page, ns=(0, 0))
    assert is_reported(laid_out.root)
    paths.write_json(result, {"status": "failed"})
    os.utime(result, ns=(0, 0))
    assert not is_reported(laid_out.root)
    paths.write_json(result, {"status": "done"})
    assert is_reported(laid_out.root)
    for damaged in ({}, None, shown | {"run": {"config": {"x": 2}}}):
        paths.write_json(summary, damaged)
        assert not is_reported(laid_out.root)


@pytest.mark.slow
def test_a_config_that_changes_under_running_workers_is_refused(laid_out):
    """laid_out is of the default config, as this file is."""
    plain = laid_out.root / "plain.py"
    plain.write_text("from fteng.config import Config as get_config\n")
    files = JobFiles(laid_out.launch)
    before = files.config.read_text()
    flags = (f"--config={plain}", f"--workdir={laid_out.root}")
    other = launch(*flags, "--config.train.epochs=9")
    assert other.returncode == 2
    assert "holds a study with other settings: train.epochs (6 -> 9)" in other.stderr
    slot = take(files.slot("w1"))
    assert slot is not None
    changed = launch(*flags, "--config.sweep.search=race")
    assert changed.returncode == 2
    assert "has changed since the jobs" in changed.stderr
    assert changed.stderr.count("\n") == 1
    assert files.config.read_text() == before
    os.close(slot)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same study in one process."""
    workdir = tmp_path_factory.mktemp("whole")
    ended = run(workdir)
    assert ended.returncode == 0, ended.stderr
    return workdir


def flags(workdir):
    return ("--config=configs/digits.py", f"--workdir={workdir}", *TINY)


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["debug", "local"])
def test_a_study_in_parts_is_the_study_to_the_bit(executor, whole, tmp_path):
    ended = launch(*flags(tmp_path), f"--executor={executor}", "--config.launch.workers=2")
    assert ended.returncode == 0, ended.stderr
    assert outcome(tmp_path) == outcome(whole)
    assert "recommended: " in ended.stdout
    again = launch(*flags(tmp_path), f"--executor={executor}", "--config.launch.workers=2")
    assert again.returncode == 0, again.stderr
    assert standing(tmp_path).left == 0


@pytest.mark.slow
def test_launchers_and_workers_are_killed_and_two_launchers_share(whole, tmp_path):
    """One worker killed under a launcher, the launcher itself killed, then two at once: nothing twice, nothing lost."""
    command = [sys.executable, "-m", "launch.sweep", *flags(tmp_path)]
    first = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    files = JobFiles(StudyPaths(tmp_path).launch)
    while not any(files.root.glob("units/*.lock")) and first.poll() is None:
        time.sleep(0.05)
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
    ended = launch(*flags(tmp_path), "--config.launch.tries=2")
    assert ended.returncode == 0, ended.stderr
    assert f"given up: {shallow}" in ended.stderr
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    trial = next(row for row in summary["trials"] if row["id"] == shallow)
    assert trial["status"] == "failed"
    assert trial["note"].startswith("given up after 2 tries: ")
    assert "given up after 2 tries" in (tmp_path / "report" / "index.html").read_text()
    (tmp_path / "trials" / shallow / "checkpoints" / "running").unlink()
    assert launch("retry", f"--workdir={tmp_path}").returncode == 0
    ended = launch(*flags(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert outcome(tmp_path) == outcome(whole)


@pytest.mark.slow
def test_cancel_saves_and_the_same_command_goes_on(whole, tmp_path):
    command = [sys.executable, "-m", "launch.sweep", *flags(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    files = JobFiles(StudyPaths(tmp_path).launch)
    while not any(files.root.glob("units/*.lock")) and process.poll() is None:
        time.sleep(0.05)
    # In this process: what a new one takes to begin, the study may take to end.
    assert control.cancel(tmp_path) == 0
    said = process.communicate(timeout=100)[1]
    assert process.returncode == 143, said
    ended = launch(*flags(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert outcome(tmp_path) == outcome(whole)


@pytest.mark.slow
def test_the_dry_run_shows_units_and_writes_nothing(tmp_path):
    work = tmp_path / "work"
    ended = launch(*flags(work), "--dry_run")
    assert ended.returncode == 0, ended.stderr
    assert "2 of 2 trials left, in 2 units" in ended.stdout
    assert not work.exists()
    assert Path(ROOT / "launch" / "job.sbatch").exists()
