"""Who runs which unit: nothing twice, nothing lost, and what breaks is cut and then given up."""

import os
import subprocess
import sys

import pytest

from fteng import paths
from fteng.config import Config, LaunchConfig, SweepConfig, to_dict
from fteng.errors import UserError
from fteng.jobs import claims
from fteng.jobs.__main__ import main
from fteng.jobs.claims import history, pull, read_plan, record_death, retry, turns, units_of, write_plan
from fteng.jobs.files import JobFiles, check_file_system
from fteng.paths import StudyPaths
from fteng.trials import TrialWork
from tests.study_runs import ROOT

TRIALS = ("a", "b", "c", "d")


@pytest.fixture
def study(tmp_path):
    here = StudyPaths(tmp_path / "work")
    rows = [{"id": trial, "tap": "last"} for trial in TRIALS]
    paths.write_json(here.study, {"trials": rows, "versions": {"jax": "1"}, "git": "none"})
    return here


@pytest.fixture
def files(study):
    return JobFiles(study.launch)


def work(*lengths):
    return [
        TrialWork(trial, f"x/{index // 2}", 0, length, 0.0)
        for index, (trial, length) in enumerate(zip(TRIALS, lengths, strict=True))
    ]


def of(tries=2, search="exhaustive"):
    return Config(sweep=SweepConfig(search=search), launch=LaunchConfig(workers=1, tries=tries))


def plan(files, *lengths, tries=2, search="exhaustive"):
    paths.write_json(files.config, {"config": to_dict(of(tries, search)), "command": "x"})
    return write_plan(files, work(*(lengths or (1, 1, 9, 9))), of(tries, search))


def claimed(files, study, worker="w"):
    claim = pull(files, study, worker)
    assert claim is not None
    return claim


def finish(study, *trials):
    for trial in trials:
        paths.write_json(study.trial(trial).result, {"status": "done"})


def test_the_longest_first_and_nobody_gets_what_another_holds(files, study):
    plan(files)
    first, second = claimed(files, study, "one"), claimed(files, study, "two")
    assert (first.trials, second.trials) == (("c", "d"), ("a", "b"))
    assert pull(files, study, "three") is None
    finish(study, "c", "d", "a")
    first.end("done")
    second.end("stopped", "asked to")
    again = claimed(files, study, "three")
    # What has a result is not run again; to be stopped is nobody's fault.
    assert (again.trials, again.attempt) == (("b",), 1)
    again.end("stopped")


def test_many_processes_share_the_units_and_none_runs_twice(files, study):
    plan(files)
    write_plan(files, [TrialWork(f"t{index}", f"x/{index}", 0, 1.0, 0.0) for index in range(40)], of())
    code = """
import sys, pathlib
from fteng import paths
from fteng.jobs.claims import pull
from fteng.jobs.files import JobFiles
study = paths.StudyPaths(pathlib.Path(sys.argv[1]))
while (claim := pull(JobFiles(study.launch), study, sys.argv[2])) is not None:
    for trial in claim.trials:
        where = study.root / f"ran-{trial}"
        with where.open("x"):
            pass
        paths.write_json(study.trial(trial).result, {"status": "done"})
    claim.end("done")
"""
    arguments = [sys.executable, "-c", code, str(study.root)]
    running = [subprocess.Popen([*arguments, f"w{index}"], cwd=ROOT, stderr=subprocess.PIPE) for index in range(3)]
    assert [process.communicate()[1] for process in running] == [b""] * 3
    assert len(list(study.root.glob("ran-*"))) == 40
    assert set(turns(files).values()) == {"done"}


def test_a_killed_process_frees_its_unit_and_is_not_to_blame(files, study):
    plan(files)
    code = """
import os, pathlib, signal, sys
from fteng import paths
from fteng.jobs.claims import pull
from fteng.jobs.files import JobFiles
study = paths.StudyPaths(pathlib.Path(sys.argv[1]))
pull(JobFiles(study.launch), study, "gone")
os.kill(os.getpid(), signal.SIGKILL)
"""
    for _ in range(5):
        assert subprocess.run([sys.executable, "-c", code, str(study.root)], cwd=ROOT, check=False).returncode == -9
    claim = claimed(files, study, "heir")
    assert claim.attempt == 1
    assert "lost" in [event["event"] for event in history(files, claim.unit.name)]


def test_what_a_witness_saw_counts_then_trials_part_and_at_last_one_is_given_up(files, study):
    plan(files, 9, 9, 1, 1)
    for _ in range(2):
        claim = claimed(files, study, "w")
        assert claim.trials == ("a", "b")
        os.close(claim.handle)
        assert record_death(files, "w", "ended by signal 11") == [claim.unit.name]
        # It saw it once.
        assert record_death(files, "w", "ended by signal 11") == []
    seen = []
    while (claim := pull(files, study, "w")) is not None:
        seen.append(claim.trials)
        if claim.trials == ("a",):
            claim.end("failed", "XlaRuntimeError: boom")
        else:
            finish(study, *claim.trials)
            claim.end("done")
    assert sorted(seen) == [("a",), ("a",), ("b",), ("c", "d")]
    result = paths.read_json(study.trial("a").result)
    assert result["status"] == "failed"
    assert result["note"] == "given up after 2 tries: XlaRuntimeError: boom"
    assert result["id"] == "a"
    assert result["provenance"] == {"jax": "1", "git": "none"}
    assert retry(files, study) == ["a"]
    assert claimed(files, study, "w").trials == ("a",)


def test_tries_are_those_of_the_config_as_it_is_now(files, study):
    plan(files, tries=3)
    finish(study, "a", "b", "c")
    claimed(files, study).end("failed", "boom")
    paths.write_json(files.config, {"config": to_dict(of(tries=1)), "command": "x"})
    # Cut at once into the trial that is left, which has a try of its own.
    assert claimed(files, study).trials == ("d",)
    assert len(read_plan(files).units) == 2


def test_a_unit_that_vanishes_for_ever_is_broken_too(files, study):
    plan(files, 9, 9, 1, 1, tries=1)
    finish(study, "c", "d", "b")
    for _ in range(claims._LOST + 1):
        claim = claimed(files, study, "w")
        assert claim.trials == ("a",)
        os.close(claim.handle)
    while (claim := pull(files, study, "w")) is not None:
        assert claim.unit.name.endswith(".0")
        os.close(claim.handle)
    assert "was killed" in paths.read_json(study.trial("a").result)["note"]


@pytest.mark.usefixtures("study")
def test_new_trials_get_units_of_their_own_and_dropped_ones_go(files):
    before = plan(files)
    longer = [*work(1, 1, 9, 9), TrialWork("e", "x/0", 0, 5.0, 0.0)]
    after = write_plan(files, longer, of())
    assert set(before.units) < set(after.units)
    assert [unit.trials for unit in after.units if unit not in before.units] == [("e",)]
    shorter = write_plan(files, longer[2:], of())
    assert sorted(trial for unit in shorter.units for trial in unit.trials) == ["c", "d", "e"]
    assert read_plan(files) == shorter


def test_a_race_is_one_unit_and_over_when_it_says_so(files, study):
    plan(files, search="race")
    claim = claimed(files, study, "w")
    assert claim.trials == TRIALS
    finish(study, *TRIALS)
    claim.end("stopped")
    claim = claimed(files, study, "w")
    assert claim.trials == TRIALS
    claim.end("done")
    assert pull(files, study, "w") is None


def test_the_units_of_a_race_are_one():
    race = of(search="race")
    assert [unit.trials for unit in units_of(work(1, 2, 3, 4), race)] == [TRIALS]
    assert units_of([], race) == []
    assert len(units_of(work(1, 2, 3, 4), of())) == 2


def test_a_witness_makes_no_folder(tmp_path, capsys):
    assert main([str(tmp_path / "typo"), "died", "--worker", "w", "--why", "x"]) == 2
    assert "config.json is missing" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


def test_a_cancelled_study_begins_nothing(files, study):
    plan(files)
    paths.write_text(files.cancelled, "")
    assert pull(files, study, "w") is None


def test_files_that_a_kill_cut_off_are_read_as_far_as_they_go(files, study):
    plan(files)
    claim = claimed(files, study)
    assert claim.trials == ("c", "d")
    os.close(claim.handle)
    history_file = files.history(claim.unit.name)
    for path, cut in ((history_file, '{"event": "do'), (files.ledger, "don")):
        with path.open("a") as file:
            file.write(cut)
    # A damaged result is no result.
    study.trial("c").root.mkdir(parents=True)
    study.trial("c").result.write_text('{"status": "do')
    for trials in (("a", "b"), ("c", "d")):
        claim = claimed(files, study)
        assert claim.trials == trials
        finish(study, *trials)
        claim.end("done")
    assert [event["event"] for event in history(files, claim.unit.name)] == ["start", "lost", "start", "done"]
    assert pull(files, study, "w") is None


def test_a_folder_without_locks_or_renames_is_one_line(files, monkeypatch):
    files.root.mkdir(parents=True)
    check_file_system(files)
    assert not list(files.root.glob(".probe*"))

    def no_locks(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fteng.locks.fcntl.flock", no_locks)
    with pytest.raises(UserError, match=r"has no file locks .*with --workdir"):
        check_file_system(files)
