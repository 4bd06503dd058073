"""Predictions: the answers the study itself gave, for files of every kind, to the end of the list whatever lies in between."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.special import softmax

from fteng.data.pixels import Settings
from fteng.data.prepare import prepare
from fteng.errors import UserError
from fteng.model import read_model, stored_answers
from fteng.predict import output, reference
from fteng.predict.__main__ import main
from fteng.predict.reading import read_batches
from fteng.predict.run import Options, batch_size, predict
from fteng.predict.see import make_see
from fteng.predict.unlike import distances, fit_limits
from fteng.predict.views import VIEWS, choose_views
from fteng.predict.wanted import Columns, Wanted, find_images
from fteng.progress import PlainReporter

COLUMNS = Columns("path", "group", False)
PROBE = Options("probe:block3")


def quiet() -> PlainReporter:
    return PlainReporter(io.StringIO())


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def shares(row: dict[str, str], kind: str) -> list[float]:
    return [float(value) for name, value in row.items() if name.startswith(f"{kind}_")]


@pytest.fixture(scope="module")
def study(finished, tmp_path_factory):
    """(work directory, folder of its test images and one of another world, their answers in the study)."""
    root = tmp_path_factory.mktemp("predict")
    workdir = shutil.copytree(finished[0], root / "work")
    model = read_model(workdir, PROBE.trial)
    dataset = prepare(model.config.data, model.backbone.preprocess.resampling, lambda *_: None)
    stored = stored_answers(workdir, model)["test"]
    images = root / "images" / "below"
    images.mkdir(parents=True)
    for index, row in enumerate(dataset.splits["test"]):
        Image.fromarray(dataset.images[row]).save(images / f"{index:03d}.png")
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(images / "noise.png")
    (images / "half.jpg").write_bytes((images / "000.png").read_bytes()[:200])
    (images / "notes.txt").write_text("no image")
    (images / ".hidden.png").write_bytes(b"")
    return workdir, root / "images", stored


@pytest.fixture(scope="module")
def answered(study, tmp_path_factory):
    """(file of an undisturbed run over the folder, what it said)."""
    out = tmp_path_factory.mktemp("out") / "predictions.csv"
    told = io.StringIO()
    said = predict(study[0], [study[1]], out, PROBE, PlainReporter(told))
    return out, said, told.getvalue()


def test_the_answers_are_those_of_the_study(study, answered):
    _, _, stored = study
    rows = [row for row in rows_of(answered[0]) if re.search(r"\d\.png$", row["path"])]
    assert len(rows) == len(stored.labels)
    own = softmax(stored.logits.astype(float), axis=1)
    np.testing.assert_allclose([shares(row, "raw") for row in rows], own, atol=1e-5)
    calibrated = np.array([shares(row, "probability") for row in rows])
    about = json.loads(answered[0].with_name("predictions.csv.json").read_text())
    assert about["temperature"] != 1
    np.testing.assert_allclose(calibrated, softmax(stored.logits / about["temperature"], axis=1), atol=1e-5)
    assert [row["predicted"] for row in rows] == [str(label) for label in own.argmax(axis=1)]


def test_one_bad_image_is_one_row_and_another_world_is_told(answered):
    out, said, told = answered
    rows = rows_of(out)
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    (broken,) = [row for row in rows if row["error"]]
    assert broken["path"].endswith("below/half.jpg")
    assert set(list(broken.values())[1:-1]) == {""}
    (noise,) = [row for row in rows if row["path"].endswith("noise.png")]
    assert noise["unlike"] == "true"
    assert float(noise["unlike_score"]) > 1.5
    flagged = [row["unlike"] for row in rows if re.search(r"\d\.png$", row["path"])]
    assert flagged.count("true") <= 0.2 * len(flagged)
    assert "1 could not be read" in said
    # An image that could not be read is black on its way, and unlike anything; nobody is told to look at it.
    assert f"\n{sum(row['unlike'] == 'true' for row in rows)} are unlike the training images" in said
    assert "1 files are no images by their names" in told


@pytest.mark.slow
def test_a_stopped_run_goes_on_and_ends_as_an_undisturbed_one(study, answered, tmp_path):
    class Impatient(PlainReporter):
        def advance(self, work: float, note: str | None = None) -> None:
            super().advance(work, note)
            if self._name == "predict" and work:
                raise KeyboardInterrupt

    out, part = tmp_path / "predictions.csv", tmp_path / "predictions.csv.part"
    with pytest.raises(KeyboardInterrupt):
        predict(study[0], [study[1]], out, PROBE, Impatient(io.StringIO()))
    assert not out.exists()
    begun = part.read_bytes()
    assert answered[0].read_bytes().startswith(begun)
    assert begun.count(b"\n") == 1 + batch_size()
    # A kill in the middle of a line, inside of quotes.
    with part.open("ab") as file:
        file.write(b'"a line\nthat was never')
    said = predict(study[0], [study[1]], out, PROBE, quiet())
    assert out.read_bytes() == answered[0].read_bytes()
    assert said.splitlines()[1:] == answered[1].splitlines()[1:]
    assert not part.exists()


def test_a_finished_file_is_left_alone_and_another_is_never_mixed_in(study, answered):
    out = answered[0]
    before = out.stat().st_mtime_ns
    assert "already" in predict(study[0], [study[1]], out, PROBE, quiet())
    assert out.stat().st_mtime_ns == before
    with pytest.raises(UserError, match="answers to other images, of another model or under other settings"):
        predict(study[0], [study[1] / "below" / "000.png"], out, PROBE, quiet())


def test_tables_are_answered_in_their_order_and_groups_are_pooled(study, tmp_path):
    workdir, images, _ = study
    table = images / "lesions.csv"
    table.write_text(
        "file;lesion\nbelow/002.png;b\nbelow/000.png;a\nbelow/001.png;b\ngone.png;a\nbelow/half.jpg;c\nbelow/003.png;\n"
    )
    out = tmp_path / "predictions.parquet"
    predict(workdir, [table], out, PROBE._replace(path_column="file", group_column="lesion"), quiet())
    read = pq.read_table(out).to_pylist()
    assert [row["path"] for row in read] == [line.split(";")[0] for line in table.read_text().splitlines()[1:]]
    assert [row["error"] for row in read][3] == "No such file or directory"
    assert (read[0]["unlike"], read[3]["unlike"], read[3]["probability_0"]) == (False, None, None)
    pooled = rows_of(tmp_path / "predictions.groups.csv")
    assert [row["group"] for row in pooled] == ["b", "a", "c", "below/003.png"]
    assert [(row["images"], row["unreadable_images"]) for row in pooled] == [("2", "0"), ("1", "1"), ("0", "1"), ("1", "0")]
    names = [f"probability_{label}" for label in range(10)]
    mean = np.mean([[row[name] for name in names] for row in (read[0], read[2])], axis=0)
    np.testing.assert_allclose(shares(pooled[0], "probability"), mean, rtol=1e-6)
    assert pooled[0]["predicted"] == str(mean.argmax())
    assert (pooled[2]["predicted"], pooled[2]["probability_0"]) == ("", "")


@pytest.mark.slow
def test_views_make_an_image_and_its_mirror_image_the_same(study):
    workdir, images, _ = study
    model = read_model(workdir, PROBE.trial)
    pixels = np.stack([np.asarray(Image.open(images / "below" / f"{index:03d}.png")) for index in range(2)])
    see = make_see(model, VIEWS["flip"])
    seen, mirrored = np.asarray(see(pixels).logits), np.asarray(see(pixels[:, :, ::-1]).logits)
    np.testing.assert_allclose(seen, mirrored, rtol=1e-5, atol=1e-5 * np.abs(seen).max())
    plain = np.asarray(make_see(model, VIEWS["none"])(pixels).logits)
    assert np.abs(seen - plain).max() > 1e-2 * np.abs(plain).max()
    kept = reference.read_reference(workdir, model, "flip", see, batch_size(), quiet())
    again = reference.read_reference(workdir, model, "flip", see, batch_size(), quiet())
    assert kept.limits is not None
    assert again.limits is not None
    assert (kept.temperature, kept.limits.limit, kept.note) == (again.temperature, again.limits.limit, "")
    assert (workdir / "probes" / "unlike-block3-flip.npz").exists()


def test_every_position_of_a_square_is_a_view():
    square = np.arange(27, dtype=np.uint8).reshape(1, 3, 3, 3)
    assert len({view(square).tobytes() for view in VIEWS["dihedral"]}) == 8
    assert [len(VIEWS[name]) for name in ("none", "flip", "dihedral")] == [1, 2, 8]
    assert choose_views("as_trained", ("colour", "flip", "dihedral")) == "dihedral"
    assert choose_views("none", ()) == "none"
    with pytest.raises(UserError, match=r"train\.augment=colour.*--tta=flip"):
        choose_views("as_trained", ("colour",))


def test_without_the_images_of_the_study_there_are_answers_and_one_line(study, tmp_path, monkeypatch):
    def gone(*_, **__):
        raise UserError("no folder 'gone'")

    monkeypatch.setattr("fteng.model.prepare", gone)
    told = io.StringIO()
    out = tmp_path / "predictions.csv"
    predict(study[0], [study[1] / "below" / "000.png"], out, Options("probe:block2"), PlainReporter(told))
    (row,) = rows_of(out)
    assert (row["unlike_score"], row["unlike"]) == ("", "")
    assert sum(shares(row, "probability")) == pytest.approx(1)
    assert "no warnings of images unlike the training images: no folder 'gone'" in told.getvalue()


def test_damaged_limits_are_made_anew(tmp_path):
    kept = tmp_path / "unlike.npz"
    for content in (b"", b"PK\x03\x04 half a zip", b"text"):
        kept.write_bytes(content)
        assert reference._find(kept, "digest") is None


@pytest.mark.parametrize("images", [40, 2000])
def test_the_limit_holds_for_new_images_and_a_shift_is_seen(images):
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(60, 60)) * np.logspace(-2, 2, 60)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, 3, count)
        return ((rng.normal(size=(count, 60)) + 8 * labels[:, None]) @ mixing).astype(np.float32), labels

    train, labels = draw(images)
    # A feature that is the same everywhere, as dead units are.
    train, val, new = (np.pad(part, ((0, 0), (0, 1))) for part in (train, draw(images)[0], draw(4000)[0]))
    limits = fit_limits(train, labels, val)
    assert (distances(limits, new) > limits.limit).mean() < (0.025 if images == 2000 else 0.15)
    far = new + np.append(6 * mixing.sum(axis=0), 0).astype(np.float32) * np.sign(rng.normal())
    # Along the line on which the classes lie, one class further on is another class: the shift goes off it.
    away = new + np.append((rng.choice([-6.0, 6.0], 60)) @ mixing, 0).astype(np.float32)
    assert np.isfinite(distances(limits, far)).all()
    assert (distances(limits, away) > limits.limit).mean() > 0.95
    dead = new.copy()
    dead[:, -1] = 50 * np.abs(train).mean()
    assert (distances(limits, dead) > limits.limit).all()


def test_batches_have_one_shape_and_every_image_in_order(tmp_path):
    wanted = []
    for index in range(11):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / f"{index}.png")
        wanted.append(Wanted(str(index), tmp_path / f"{index}.png", ""))
    wanted[5] = Wanted("no", tmp_path / "no.png", "")
    batches = list(read_batches(wanted, Settings(8, "squash", "bicubic", 1.0), 4, 3))
    assert [batch.images.shape for batch in batches] == [(4, 8, 8, 3)] * 3
    assert [len(batch.errors) for batch in batches] == [4, 4, 3]
    seen = np.concatenate([batch.images[:, 0, 0, 0] for batch in batches])
    assert seen.tolist() == [0, 1, 2, 3, 4, 0, 6, 7, 8, 9, 10, 0]
    assert [error for batch in batches for error in batch.errors] == [""] * 5 + ["No such file or directory"] + [""] * 5


def test_names_from_files_and_classes_come_back_as_they_are(tmp_path):
    layout = output.OutputColumns(('a,"b"', "<script>", "path"), True)
    wanted = [Wanted('x,\n"y".png', tmp_path, "g;1"), Wanted("z.png", tmp_path, "")]
    rows = [
        output.Answer([0.2, 0.7, 0.1], [0.3, 0.5, 0.2], 1.25, ""),
        output.Answer([0, 0, 0], [0, 0, 0], None, "broken, and more"),
    ]
    out = tmp_path / "p.csv"
    with output.open_output(out, layout, wanted, {}, 1) as opened:
        opened.write(wanted[:1], rows[:1])
        opened.write(wanted[1:], rows[1:])
    first, second = rows_of(out)
    assert (first["path"], first["group"], first["predicted"], first["unlike"]) == ('x,\n"y".png', "g;1", "<script>", "true")
    assert (second["probability_path"], second["error"]) == ("", "broken, and more")


def test_two_processes_do_not_write_one_file(tmp_path):
    layout = output.OutputColumns(("a", "b"), False)
    with (
        output.open_output(tmp_path / "p.csv", layout, [], {}, 1),
        pytest.raises(UserError, match="another process is writing"),
        output.open_output(tmp_path / "p.csv", layout, [], {}, 1),
    ):
        pass


@pytest.mark.parametrize(
    ("content", "columns", "said"),
    [
        ("file,label\na.png,1\n", COLUMNS, r"no column 'path', it has file, label; name the right one with --path_column=NAME"),
        ("path\n\n", COLUMNS, "the table has no rows"),
        ("path,x\n,1\n", COLUMNS, "line 2 names no image"),
        ("path\na.png\n", Columns("path", "lesion", True), "no column 'lesion'.*--group_column=NAME"),
    ],
)
def test_a_table_that_does_not_say_which_images_is_one_line(tmp_path, content, columns, said):
    table = tmp_path / "table.csv"
    table.write_text(content)
    with pytest.raises(UserError, match=said):
        find_images([table], columns)


def test_places_without_images_are_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match=r"no image in .* \(1 other files\); allowed: \.bmp"):
        find_images([tmp_path], COLUMNS)
    with pytest.raises(UserError, match=r"no file or folder .*gone"):
        find_images([tmp_path / "gone"], COLUMNS)
    with pytest.raises(UserError, match="--group_column=x: no table among the paths"):
        find_images([tmp_path / "notes.txt"], Columns("path", "x", True))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--out=answers.txt"], r"got 'answers\.txt', allowed: a name that ends in \.csv or \.parquet"),
        (["--out=answers.csv", "--trial=nonsense"], "'nonsense' is no trial of this study"),
        (["--out=answers.csv", "--tta"], r"train\.augment=.*--tta=flip"),
        (["--out=/proc/none/answers.csv", "--trial=probe:block3"], "cannot write /proc/none"),
    ],
)
def test_each_mistake_is_one_line(study, capsys, flags, said):
    assert main([str(study[0]), str(study[1] / "below" / "000.png"), *flags]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fteng: ")]
    assert re.search(said, line), line
