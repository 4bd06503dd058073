"""From a study's folder and the rows of its curve to grades."""

import json

import numpy as np
import pytest

from fteng.analysis.recommend import Candidate
from fteng.errors import UserError
from fteng.paths import StudyPaths
from fteng.results import Predictions
from fteng.summary.rows import Criteria, Row
from fteng.summary.similarity import similarity
from fteng.trials import Variant
from tests.similarity.test_grade import assessment, named

JUDGE = Criteria("accuracy", 0.02, 0.95, {"test": np.random.default_rng(0).multinomial(40, np.full(40, 1 / 40), size=200)})


def row(depth, right, tuned=True, **changed):
    labels = np.arange(40) % 2
    logits = np.eye(2, dtype=np.float32)[np.where(np.arange(40) < right, labels, 1 - labels)]
    answers = Predictions(np.arange(40).astype(str), np.arange(40).astype(str), labels, logits)
    entry = {
        "freeze_depth": depth,
        "tap": "d",
        "leaves": "all",
        "variant": Variant()._asdict(),
        "trainable_stages": ["d"] if tuned else [],
        "label": f"depth {depth}",
        "trials": [f"t{depth}"] if tuned else [],
        "val": {"accuracy": {"value": right / 40}},
        "test": {"accuracy": {"value": right / 40}},
    } | changed
    return Row(Candidate("", "d", depth, 1, 1.0, [answers], [answers]), entry)


def trial(name, depth, seconds):
    cost = None if seconds is None else {"seconds": seconds + 5.0, "prefix_seconds": 5.0}
    return {"id": name, "tap": "d", "freeze_depth": depth, "leaves": "all", "variant": Variant()._asdict(), "cost": cost}


@pytest.fixture
def study(tmp_path):
    found = StudyPaths(tmp_path)
    found.probes.mkdir(parents=True)
    (found.probes / "similarity.json").write_text(json.dumps(assessment()))
    return found


def test_rows_and_trials_become_grades(study):
    rows = [row(0, 24), row(1, 28), row(2, 36), row(4, 30, tuned=False)]
    trials = [trial("t0", 0, 50.0), trial("t1", 1, 40.0), trial("t2", 2, 30.0), trial("t2b", 2, 20.0), trial("t3", 3, None)]
    found = similarity(study, rows, trials, JUDGE, "")
    assert found is not None
    assert found["grade"]["sweep_seconds"] == 140
    ours = named(found["grade"]["advice"], "ours")
    assert (ours["regret"], ours["seconds_saved"]) == (0.0, 90.0)
    everything = named(found["grade"]["advice"], "everything")
    assert everything["regret"] == pytest.approx(30)
    assert everything["low"] < 30 < everything["high"]
    json.dumps(found, allow_nan=False)


def test_controls_stage_sets_and_single_leaves_take_no_part(study):
    control = row(3, 40, variant=Variant("random")._asdict())
    rows = [row(0, 24), row(2, 36), control, row(None, 40), row(1, 40, leaves="norm")]
    found = similarity(study, rows, [trial("t0", 0, 1.0)], JUDGE, "")
    assert found is not None
    assert found["grade"]["depths"] == [0, 2]
    assert found["grade"]["best"]["freeze_depth"] == 2


def test_a_study_without_the_record_or_without_trials_is_not_graded(study, tmp_path):
    found = similarity(study, [row(4, 30, tuned=False)], [trial("t0", 0, None)], JUDGE, "")
    assert found is not None
    assert found["grade"]["reason"]
    assert similarity(StudyPaths(tmp_path / "other"), [], [], JUDGE, "") is None


def test_a_record_of_another_version_is_one_line(study):
    (study.probes / "similarity.json").write_text(json.dumps(assessment() | {"format": 0}))
    with pytest.raises(UserError, match=r"format 0.*run the study again"):
        similarity(study, [], [], JUDGE, "")
