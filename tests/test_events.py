"""What a tracking tool is told is what stands in the trial's files, once, while the study runs and when it has ended."""

import json
import re
import shutil
import struct

import pytest

from fteng import events
from fteng.errors import UserError

event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2", exc_type=ImportError)


def read_events(folder):
    """[(step, {name: value})] of every event file, in the order they were written."""
    found = []
    for file in sorted(folder.glob("events.out.tfevents.*"), key=lambda file: int(re.findall(r"\.(\d+)\.\d+$", file.name)[0])):
        content, at = file.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event = event_pb2.Event.FromString(content[at + 12 : at + 12 + length])
            at += length + 16
            if event.summary.value:
                found.append((event.step, {value.tag: value.simple_value for value in event.summary.value}))
    return found


@pytest.fixture
def study(finished, tmp_path):
    """(work directory, a trial's folder, its id)."""
    workdir = shutil.copytree(finished[0], tmp_path / "work")
    trial = sorted((workdir / "trials").iterdir())[0]
    return workdir, trial, trial.name


def test_a_running_study_is_told_line_by_line_and_nothing_twice(study, tmp_path, capsys):
    workdir, trial, name = study
    lines = (trial / "metrics.jsonl").read_text().splitlines()
    result = (trial / "result.json").read_text()
    (trial / "result.json").unlink()
    (trial / "metrics.jsonl").write_text(lines[0] + "\n" + lines[1][:40])
    out = tmp_path / "told"
    assert events.tell_study(workdir, out, events.TOOLS["tensorboard"]) == (4, 1)
    assert [step for step, _ in read_events(out / name)] == [json.loads(lines[0])["step"]]
    (trial / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (trial / "result.json").write_text(result)
    assert events.tell_study(workdir, out, events.TOOLS["tensorboard"]) == (2, 0)
    assert events.main([str(workdir), f"--out={out}"]) == 0
    assert capsys.readouterr().out.startswith("0 new lines in ")
    told = read_events(out / name)
    assert [step for step, _ in told] == [*(json.loads(line)["step"] for line in lines), json.loads(result)["steps"]]
    first = json.loads(lines[0])
    assert told[0][1]["loss"] == pytest.approx(first["loss"])
    assert told[0][1]["val/auc"] == pytest.approx(first["val"]["auc"])
    assert told[-1][1]["test/accuracy"] == pytest.approx(json.loads(result)["test"]["accuracy"])


def test_following_ends_with_a_race_that_did_without_a_trial(study, tmp_path):
    workdir, trial, name = study
    record = json.loads((workdir / "study.json").read_text())
    record["config"]["sweep"]["search"] = "race"
    (workdir / "study.json").write_text(json.dumps(record))
    race = {"over": False, "trials": [row["id"] for row in record["trials"]], "decisions": []}
    shutil.rmtree(trial)
    for over, left in ((False, 1), (True, 0)):
        (workdir / "race.json").write_text(json.dumps(race | {"over": over}))
        assert events.tell_study(workdir, tmp_path / "told", lambda _: None)[1] == left
    (workdir / "race.json").write_text(json.dumps(race | {"over": True, "trials": ["another"]}))
    assert events.tell_study(workdir, tmp_path / "told", lambda _: None)[1] == 1
    (workdir / "steering.json").write_text(json.dumps({"stopped": [name], "added": []}))
    assert events.tell_study(workdir, tmp_path / "told", lambda _: None)[1] == 0


def test_a_trial_that_goes_on_after_a_stop_tells_its_test_scores(study, tmp_path):
    workdir, trial, name = study
    result, told = json.loads((trial / "result.json").read_text()), []
    for status in ("stopped", "stopped", "done"):
        (trial / "result.json").write_text(json.dumps(result | {"status": status}))
        events.tell_study(workdir, tmp_path / "told", lambda news: told.append(news) if news.settings["id"] == name else None)
    assert [any(key.startswith("test/") for line in news.lines for key in line.values) for news in told] == [True, True]
    (tmp_path / "told" / name / "told.json").write_text("[]")
    with pytest.raises(UserError, match=r"told\.json is damaged, or of another version of fteng \(it lacks step, status\); delete"):
        events.tell_study(workdir, tmp_path / "told", lambda _: None)


def test_what_is_undefined_is_not_told(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 3, "loss": 0.5, "val": {"auc": null, "accuracy": 1.0}}\n')
    assert events.read_lines(tmp_path / "metrics.jsonl") == [events.Line(3, {"loss": 0.5, "val/accuracy": 1.0})]


def test_each_mistake_is_one_line(study, tmp_path, capsys, monkeypatch):
    assert events.main([str(tmp_path / "none")]) == 2
    assert events.main([str(study[0]), "--out=/proc/none"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert [
        re.match(r"fteng: .* holds no study\.json|fteng: --out: cannot write to /proc/none", line) is not None for line in told
    ] == [True] * 2
    monkeypatch.setattr(events.importlib, "import_module", _missing)
    with pytest.raises(UserError, match=r"pip install 'fteng\[tracking\]'"):
        events.tell_study(study[0], tmp_path / "told", events.TOOLS["tensorboard"])


def _missing(name):
    raise ImportError(f"No module named {name!r}")
