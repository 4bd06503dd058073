"""Trials that are stopped, added and cloned by hand: what is asked for, what becomes of it, who descends from whom."""

import json
import shutil

import numpy as np
import pytest

from fteng import steer
from fteng.errors import UserError
from fteng.paths import StudyPaths, read_json
from fteng.results import read_predictions
from fteng.steer.__main__ import _more, _specs, main
from tests.study_runs import TINY, run


@pytest.fixture
def study(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "study")
    return StudyPaths(tmp_path / "study")


def ids(study):
    return [row["id"] for row in read_json(study.study)["trials"]]


def ask(study, *words):
    return main([str(study.root), *words])


def test_the_list_names_trials_and_their_state(study, capsys):
    assert ask(study, "list") == 0
    assert capsys.readouterr().out.splitlines() == [f"{name}  done" for name in ids(study)]


def test_an_added_trial_is_the_one_that_the_config_would_have_asked_for(study, capsys):
    assert ask(study, "add", "depth16", "--learning_rate=2e-3", "--seed=3") == 0
    assert capsys.readouterr().out.startswith("depth16-rate0.002-seed3-")
    (entry,) = steer.read(study).added
    assert entry["like"].startswith("depth16-")
    # Once more is nothing new.
    assert ask(study, "add", "depth16-rate0.001", "--learning_rate=2e-3", "--seed=3") == 2
    assert "is planned already" in capsys.readouterr().err
    assert len(steer.read(study).added) == 1


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--seed=-1", "--seed: got -1, allowed: at least 0"),
        ("--learning_rate=nan", "--learning_rate: got nan, allowed: "),
        ("--learning_rate=inf", "--learning_rate: got inf, allowed: "),
        ("--learning_rate=0", "--learning_rate: got 0.0, allowed: above 0"),
        ("--layer_decay=2", "--layer_decay: got 2.0, allowed: "),
    ],
)
@pytest.mark.parametrize("what", ["add", "clone"])
def test_what_the_config_would_not_take_is_one_line_and_nothing_is_asked_for(what, flag, said, study, capsys):
    assert ask(study, what, "depth16", flag) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1
    assert steer.read(study).added == ()
    assert not list(study.trials.glob(".clone-*"))


def test_a_file_that_asks_for_such_a_trial_is_one_line(study):
    (like, *_) = ids(study)
    with steer.changing(study) as asked:
        asked[0] = asked[0]._replace(added=({"like": like, "seed": -1},))
    with pytest.raises(UserError, match=r"--seed: got -1"):
        _specs(study)


def test_a_clone_has_its_parents_weights_and_name(study, capsys):
    assert ask(study, "clone", "depth16", "--learning_rate=1e-4") == 0
    name = capsys.readouterr().out.split()[0]
    assert name.startswith("depth16-clone-rate0.0001-seed0-")
    assert (study.trial(name).parent / "manifest.ocdbt").exists()
    (entry,) = steer.read(study).added
    assert entry["step"] == read_json(study.trial(entry["like"]).result)["steps"]
    # A clone can be cloned, once it has weights.
    assert ask(study, "clone", name, "--learning_rate=1e-5") == 2
    assert "has no weights of its own yet" in capsys.readouterr().err


def test_of_two_clones_at_once_the_second_is_one_line(study):
    like = next(spec for spec in _specs(study) if spec.id.startswith("depth16"))
    _more(study, like, {"learning_rate": 1e-4}, clone=True)
    # The second has chosen `like` before the first was written.
    with pytest.raises(UserError, match="is planned already"):
        _more(study, like, {"learning_rate": 1e-4}, clone=True)
    assert len(steer.read(study).added) == 1
    # A kill between the weights and what is asked for leaves the weights.
    study.steering.unlink()
    _more(study, like, {"learning_rate": 1e-4}, clone=True)
    assert len(steer.read(study).added) == 1
    assert not list(study.trials.glob(".clone-*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stop", "depth16"], "has ended already"),
        (["stop"], "which trial?"),
        (["stop", "nosuch"], "'nosuch' is no trial of this study; allowed: one of depth18-"),
        (["stop", "depth1"], "'depth1' fits several trials; allowed: one of depth18-"),
        (["stop", "depth16", "--seed=1"], "--seed is for add and clone"),
        (["add", "depth16"], "is planned already"),
        (["add", "depth16", "--freeze_depth=99"], "got 99, allowed: 0"),
        (["clone", "depth16", "--freeze_depth=3"], "a clone keeps the freeze depth of its parent"),
        (["add", "depth16", "depth18", "--seed=1"], "add takes one trial, got 2"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_nothing_is_written(study, capsys, words, said):
    assert ask(study, *words) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert steer.read(study) == steer.Steering()
    assert not list(study.trials.glob(".clone-*"))


def test_no_study_and_a_damaged_file_are_one_line(study, tmp_path, capsys):
    assert ask(StudyPaths(tmp_path / "none"), "list") == 2
    assert "holds no study.json" in capsys.readouterr().err
    study.steering.write_text('{"stopped": 3}')
    assert ask(study, "list") == 2
    assert "is damaged" in capsys.readouterr().err


def test_a_race_is_not_told_what_to_stop(study, capsys):
    record = read_json(study.study)
    record["config"]["sweep"]["search"] = "race"
    study.study.write_text(json.dumps(record))
    shutil.rmtree(study.trial(ids(study)[0]).root)
    assert ask(study, "stop", ids(study)[0]) == 2
    assert "a race stops trials itself" in capsys.readouterr().err


@pytest.mark.slow
def test_added_and_cloned_trials_run_and_a_stopped_one_does_not(study, tmp_path, capsys):
    first, _ = before = ids(study)
    assert ask(study, "add", "depth16", "--learning_rate=2e-3") == 0
    # A rate of next to nothing leaves the parent as it was.
    assert ask(study, "clone", "depth16-rate0.001", "--learning_rate=1e-12") == 0
    added, clone = (line.split()[0] for line in capsys.readouterr().out.splitlines())
    shutil.rmtree(study.trial(first).root)
    assert ask(study, "stop", first) == 0
    ended = run(study.root)
    assert ended.returncode == 0, ended.stderr
    summary = read_json(study.report / "summary.json")
    rows = {row["id"]: row for row in summary["trials"]}
    assert {name: row["status"] for name, row in rows.items()} == {
        first: "not run",
        before[1]: "done",
        added: "done",
        clone: "done",
    }
    assert rows[first]["note"] == "stopped by its user before it began"
    parent, child = (read_predictions(study.trial(name).predictions)["test"].logits for name in (before[1], clone))
    np.testing.assert_allclose(child, parent, rtol=0, atol=1e-5)
    page = (study.report / "index.html").read_text()
    assert f"continued from {before[1]} at step" in page
    assert "went on from another trial" in page
    # Nothing is left to do, until the stopped one is to go on.
    assert "to run on" not in run(study.root).stderr
    assert ask(study, "resume", first) == 0
    assert run(study.root).returncode == 0
    asked = run(tmp_path / "asked", "--config.sweep.learning_rates=1e-3,2e-3", base=TINY[:-2] + TINY[-1:])
    assert asked.returncode == 0, asked.stderr
    for name in (first, before[1], added):
        mine, theirs = (read_predictions(StudyPaths(root).trial(name).predictions) for root in (study.root, tmp_path / "asked"))
        for split, answers in mine.items():
            np.testing.assert_array_equal(answers.logits, theirs[split].logits, name)
