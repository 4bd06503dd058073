"""A race as a user runs it: decided again after a kill as before, and continued when everything is asked for after all."""

import json
import signal
import subprocess
import time

import pytest

from fteng.paths import read_json
from tests.study_runs import QUICK, ROOT, command, run

RACE = (
    *QUICK,
    "--config.train.epochs=3",
    "--config.sweep.freeze_depths=14,16,all",
    "--config.sweep.learning_rates=1e-3,3e-4,1e-4",
    "--config.sweep.seeds=0,1",
)


def ends(workdir):
    """Everything that must not depend on interruptions."""
    found = {}
    for file in sorted(workdir.glob("trials/*/result.json")):
        result = read_json(file)
        found[result["id"]] = (result["status"], result["steps"], result["val"], result["test"], result["note"])
    return found, read_json(workdir / "race.json")["decisions"]


@pytest.fixture(scope="module")
def raced(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("race")
    ended = run(workdir, "--config.sweep.search=race", base=RACE)
    assert ended.returncode == 0, ended.stderr
    return workdir


@pytest.mark.slow
def test_a_race_looks_at_test_only_at_the_end_and_says_what_it_did(raced):
    race, summary = read_json(raced / "race.json"), read_json(raced / "report" / "summary.json")
    assert race["over"]
    assert 0 < race["epochs_run"] < race["epochs_exhaustive"] == 54
    by_status = {}
    for trial in summary["trials"]:
        by_status.setdefault(trial["status"], []).append(trial)
    assert set(by_status) <= {"done", "stopped", "not run"}
    stopped, waived = (by_status.get(status, []) for status in ("stopped", "not run"))
    assert all(trial["test"] == {} and trial["val"] for trial in stopped)
    assert waived
    assert all(trial["note"] for trial in stopped + waived)
    named = {trial for decision in race["decisions"] for trial in decision["trials"]}
    assert {trial["id"] for trial in stopped + by_status["done"]} <= named
    page = (raced / "report" / "index.html").read_text()
    assert "Decisions of the race" in page
    assert "The study is not finished" not in page


@pytest.mark.slow
def test_a_race_that_is_over_starts_nothing(raced):
    before = {file: file.stat().st_mtime_ns for file in raced.rglob("result.json")}
    assert run(raced, "--config.sweep.search=race", base=RACE).returncode == 0
    assert {file: file.stat().st_mtime_ns for file in raced.rglob("result.json")} == before


@pytest.mark.slow
def test_a_killed_race_decides_as_an_undisturbed_one(raced, tmp_path):
    for wait in (2, 6, 9, 13):
        process = subprocess.Popen(
            command(tmp_path, "--config.sweep.search=race", base=RACE),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run(tmp_path, "--config.sweep.search=race", base=RACE).returncode == 0
    assert ends(tmp_path) == ends(raced)


@pytest.mark.slow
def test_what_ended_before_there_was_a_race_takes_part_and_is_not_run_again(tmp_path):
    assert run(tmp_path, "--config.sweep.freeze_depths=16", "--config.sweep.learning_rates=1e-3", base=RACE[:-3]).returncode == 0
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("result.json")}
    ended = run(tmp_path, "--config.sweep.search=race", base=RACE)
    assert ended.returncode == 0, ended.stderr
    race = read_json(tmp_path / "race.json")
    assert race["over"]
    kept = {file: stamp for file, stamp in before.items() if "trials" in file.parts}
    assert kept
    assert {file: file.stat().st_mtime_ns for file in kept} == kept


@pytest.mark.slow
def test_a_rate_that_diverges_leaves_the_others_in_the_race(tmp_path):
    flags = ("--config.sweep.search=race", "--config.sweep.learning_rates=1e30,1e-4", "--config.sweep.seeds=0")
    ended = run(tmp_path, *flags, base=RACE[:-2])
    assert ended.returncode == 0, ended.stderr
    summary = read_json(tmp_path / "report" / "summary.json")
    states = {(trial["freeze_depth"], trial["learning_rate"]): trial["status"] for trial in summary["trials"]}
    assert any(state == "diverged" for state in states.values())
    assert any(state == "done" for (_, rate), state in states.items() if rate == 1e-4)


@pytest.mark.slow
def test_what_a_race_stopped_goes_on_when_all_is_asked_for(raced, tmp_path):
    """The same trials, to the bit, as a study that never raced."""
    one, other = tmp_path / "raced", tmp_path / "never"
    subprocess.run(["cp", "-r", str(raced), str(one)], check=True)
    for workdir in (one, other):
        ended = run(workdir, base=RACE)
        assert ended.returncode == 0, ended.stderr
    results = []
    for workdir in (one, other):
        found = {}
        for file in sorted(workdir.glob("trials/*/result.json")):
            result = json.loads(file.read_text())
            found[result["id"]] = (result["status"], result["steps"], result["val"], result["test"])
        results.append(found)
    assert results[0] == results[1]
    assert {status for status, *_ in results[0].values()} == {"done"}
