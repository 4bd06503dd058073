import csv
import io
import json
import shutil
import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest

from fteng import challenge
from fteng.analysis.metrics import evaluate
from fteng.challenge import to_csv
from fteng.errors import UserError
from fteng.results import Predictions, write_predictions

# The newest scorer (2023) calls what pandas 3 no longer has.
SCORER = ("isic-challenge-scoring==5.6.0", "pandas<3")


def answers(*ids):
    n = len(ids)
    return Predictions(np.array(ids), np.array(ids), np.zeros(n, np.int64), np.array([[0.0, np.log(3.0)]] * n, np.float32))


def test_one_row_an_image_by_name_and_shares():
    rows = list(csv.DictReader(io.StringIO(to_csv(["benign", "malignant"], answers("a/ISIC_1.jpg", "ISIC_2.jpg")))))
    assert [row["image"] for row in rows] == ["ISIC_1", "ISIC_2"]
    assert float(rows[0]["malignant"]) == pytest.approx(0.75)
    assert float(rows[0]["benign"]) + float(rows[0]["malignant"]) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("classes", "ids", "says"),
    [(["a", "b"], ("x/1.jpg", "y/1.png"), "two images are called '1'"), (["a", "image"], ("1",), "called 'image'")],
)
def test_what_the_format_cannot_hold_is_refused(classes, ids, says):
    with pytest.raises(UserError, match=says):
        to_csv(classes, answers(*ids))


def test_only_the_ending_of_a_file_is_cut_off():
    rows = csv.DictReader(io.StringIO(to_csv(["a", "b"], answers("x/ISIC_1.v2", "ISIC_1.JPG"))))
    assert [row["image"] for row in rows] == ["ISIC_1.v2", "ISIC_1"]


def test_answers_of_a_diverged_network_are_refused():
    diverged = answers("1")
    diverged.logits[0, 0] = np.nan
    with pytest.raises(UserError, match="diverged"):
        to_csv(["a", "b"], diverged)


def test_no_study_is_one_line(tmp_path, capsys):
    assert challenge.main([str(tmp_path), f"--out={tmp_path / 'x.csv'}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_place_that_cannot_be_written_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(challenge, "read_answers", lambda *_: (["a", "b"], answers("1")))
    assert challenge.main([str(tmp_path), f"--out={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"fteng: --out: cannot write {tmp_path} (Is a directory)")
    assert said.count("\n") == 1


@pytest.fixture
def study(tmp_path):
    """Two trials, of which the second was stopped and has not seen the test images, and the probe of a stage."""
    trials = [{"id": name} for name in ("depth0-x", "depth1-y", "broken-z")]
    record = {"stages": ["stem", "block1"], "trials": trials, "dataset": {"classes": ["a", "b"]}}
    (tmp_path / "study.json").write_text(json.dumps(record))
    splits = {name: {split: answers(f"{name}-{split}") for split in ("val", "test")} for name in ("done", "stopped", "probe")}
    del splits["stopped"]["test"]
    for name, place in {"done": "trials/depth0-x", "stopped": "trials/depth1-y"}.items():
        (tmp_path / place).mkdir(parents=True)
        write_predictions(tmp_path / place / "predictions.parquet", splits[name])
    (tmp_path / "trials" / "broken-z").mkdir()
    (tmp_path / "trials" / "broken-z" / "result.json").write_text('{"status": "failed", "note": "frozen: changed"}')
    (tmp_path / "probes").mkdir()
    write_predictions(tmp_path / "probes" / "stem.parquet", splits["probe"])
    (tmp_path / "report").mkdir()
    rows = [{"trials": ["depth0-x"], "tap": "block1"}, {"trials": [], "tap": "stem"}]
    (tmp_path / "report" / "summary.json").write_text(json.dumps({"recommendation": {"row": 1}, "depth_curve": rows}))
    return tmp_path


@pytest.mark.parametrize(
    ("words", "image"),
    [
        (["--trial=depth0"], "done-test"),
        (["--trial=depth1", "--split=val"], "stopped-val"),
        (["--trial=probe:stem"], "probe-test"),
        ([], "probe-test"),
    ],
)
def test_trials_and_probes_are_named_as_everywhere(study, words, image):
    assert challenge.main([str(study), f"--out={study / 'x.csv'}", *words]) == 0
    assert [row["image"] for row in csv.DictReader((study / "x.csv").read_text().splitlines())] == [image]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--trial=depth1"], "depth1-y has predictions of val alone, none of test; finish it, or give another --split or --trial"),
        (["--trial=depth"], "'depth' fits several trials; allowed: probe:STAGE, or one of depth0-x, depth1-y"),
        (["--trial=none"], "'none' is no trial of this study; allowed: probe:STAGE, or one of depth0-x, depth1-y, broken-z"),
        (["--trial=broken-z"], "trial broken-z failed (frozen: changed); name another"),
        (["--trial=probe:none"], "no stage is called 'none'; allowed: stem, block1"),
        (["--trial=probe:block1"], "probe:block1 has no predictions; run the study to its end"),
    ],
)
def test_what_there_is_no_answer_to_is_one_line(study, capsys, words, says):
    assert challenge.main([str(study), f"--out={study / 'x.csv'}", *words]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    ["{", "{}", "[]", '{"recommendation": {"row": 9}, "depth_curve": []}', '{"recommendation": {"row": 0}, "depth_curve": [{}]}'],
)
def test_a_damaged_summary_is_one_line(study, capsys, text):
    (study / "report" / "summary.json").write_text(text)
    assert challenge.main([str(study), f"--out={study / 'x.csv'}"]) == 2
    said = capsys.readouterr().err
    assert "summary.json is damaged; make it anew: python -m fteng.report" in said
    assert said.count("\n") == 1


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("classes", [("benign", "malignant"), ("AKIEC", "BCC", "BKL", "DF", "MEL", "NV", "VASC")])
def test_the_official_scorer_agrees(tmp_path_factory, tmp_path, classes):
    python = official_scorer(tmp_path_factory)
    rng = np.random.default_rng(len(classes))
    labels = np.tile(np.arange(len(classes)), 40)
    logits = (rng.normal(0, 1, (len(labels), len(classes))) + 1.2 * np.eye(len(classes))[labels]).round(1)
    # Rounded, so that images tie; but not the classes of an image, which the scorer counts as no answer at all.
    logits = (logits + np.linspace(0, 0.05, len(classes))).astype(np.float32)
    ids = np.array([f"images/ISIC_{index:07d}.jpg" for index in range(len(labels))])
    predictions = Predictions(ids, ids, labels, logits)
    truth, answered = tmp_path / "truth.csv", tmp_path / "answers.csv"
    answered.write_text(to_csv(list(classes), predictions))
    rows = [[f"ISIC_{index:07d}", *np.eye(len(classes))[label]] for index, label in enumerate(labels)]
    truth.write_text("\n".join(",".join(map(str, row)) for row in [["image", *classes], *rows]) + "\n")
    call = [python, "-m", "isic_challenge_scoring", "-o", "json", "classification", str(truth), str(answered), "-m", "auc"]
    found = json.loads(subprocess.run(call, capture_output=True, text=True, check=True).stdout)
    ours = evaluate(predictions)
    assert found["aggregate"]["balanced_accuracy"] == pytest.approx(ours["balanced_accuracy"], abs=1e-9)
    # With two classes the scorer averages over both, while we speak of the positive one.
    theirs = found["macro_average"] if len(classes) > 2 else {name: by[classes[1]] for name, by in found["per_category"].items()}
    assert theirs["auc"] == pytest.approx(ours["auc"], abs=1e-9)
    assert theirs["ap"] == pytest.approx(ours["average_precision"], abs=1e-9)
    if len(classes) == 2:
        assert theirs["auc_sens_80"] == pytest.approx(ours["partial_auc"], abs=1e-9)


def official_scorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment of its own with isic-challenge-scoring, whose old pins would not go beside ours."""
    place = tmp_path_factory.getbasetemp() / "scorer"
    python = place / "bin" / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *SCORER]
        done = subprocess.run(install, capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(place)
            pytest.skip(f"cannot install the official scorer: {done.stderr.strip().splitlines()[-1]}")
    return python
