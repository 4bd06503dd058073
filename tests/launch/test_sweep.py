"""python -m launch.sweep as a user types it: what it refuses, and what it shows."""

import dataclasses
import os
from pathlib import Path

import pytest

from fteng import paths
from fteng.config import Config, LaunchConfig, SweepConfig, to_dict
from fteng.errors import UserError
from fteng.jobs.claims import pull, write_plan
from fteng.jobs.files import JobFiles
from fteng.locks import take
from fteng.paths import StudyPaths
from fteng.summary import records, shown
from fteng.trials import TrialWork
from launch import layout, sweep
from launch.status import standing
from tests.study_runs import ROOT, in_parts, launched


@pytest.fixture
def laid_out(tmp_path):
    study = StudyPaths(tmp_path)
    files = JobFiles(study.launch)
    trials = ("a", "b", "c")
    config = Config(launch=LaunchConfig(workers=1, tries=1))
    paths.write_json(files.config, {"config": to_dict(config), "command": "x"})
    paths.write_json(study.study, {"trials": [{"id": trial} for trial in trials], "versions": {}, "git": "none"})
    paths.write_json(study.surveyed, {})
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
    # Stopped is not broken.
    assert standing(laid_out.root).counts == {"done": 1, "waiting": 2}


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


@pytest.mark.parametrize("gone", [lambda study: JobFiles(study.launch).plan, lambda study: study.surveyed], ids=["plan", "probes"])
def test_what_is_gone_is_made_again(laid_out, gone):
    assert standing(laid_out.root).surveyed
    gone(laid_out).unlink()
    now = standing(laid_out.root)
    assert (now.surveyed, now.line) == (False, "survey: waiting")


def test_other_settings_wait_for_a_launcher_and_the_same_share(laid_out):
    files, config = JobFiles(laid_out.launch), Config(launch=LaunchConfig(workers=1, tries=1))
    more = dataclasses.replace(config, sweep=SweepConfig(seeds=(7,)))

    def lay_out(config):
        return layout.laying_out(files, config, "x", lambda: False)

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
    assert not shown(laid_out)
    whole = {"run": {"config": {"x": 1}}, "trials": [{"id": "a"}], "records": records(laid_out)}
    paths.write_json(summary, whole)
    paths.write_text(page, "")
    os.utime(page, ns=(0, 0))
    assert shown(laid_out)
    paths.write_json(result, {"status": "failed"})
    os.utime(result, ns=(0, 0))
    assert not shown(laid_out)
    paths.write_json(result, {"status": "done"})
    assert shown(laid_out)
    for damaged in ({}, None, whole | {"run": {"config": {"x": 2}}}):
        paths.write_json(summary, damaged)
        assert not shown(laid_out)


@pytest.mark.slow
def test_a_config_that_changes_under_running_workers_is_refused(laid_out):
    """laid_out is of the default config, as this file is."""
    plain = laid_out.root / "plain.py"
    plain.write_text("from fteng.config import Config as get_config\n")
    files = JobFiles(laid_out.launch)
    before = files.config.read_text()
    flags = (f"--config={plain}", f"--workdir={laid_out.root}")
    other = launched(*flags, "--config.train.epochs=9")
    assert other.returncode == 2
    assert "holds a study with other settings: train.epochs (6 -> 9)" in other.stderr
    slot = take(files.slot("w1"))
    assert slot is not None
    changed = launched(*flags, "--config.sweep.search=race")
    assert changed.returncode == 2
    assert "has changed since the jobs" in changed.stderr
    assert changed.stderr.count("\n") == 1
    assert files.config.read_text() == before
    os.close(slot)


@pytest.mark.slow
def test_the_dry_run_shows_units_and_writes_nothing(tmp_path):
    work = tmp_path / "work"
    ended = launched(*in_parts(work), "--dry_run")
    assert ended.returncode == 0, ended.stderr
    assert "2 of 2 trials left, in 2 units" in ended.stdout
    assert not work.exists()
    assert Path(ROOT / "launch" / "job.sbatch").exists()
