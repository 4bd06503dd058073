"""The model a study ends with, and the file a user takes home, are the network that was judged."""

import json
import re
import runpy
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors
from PIL import Image
from sklearn.datasets import load_sample_images

from fteng import export
from fteng.backbones.catalogue import load
from fteng.config import BackboneConfig
from fteng.data.decode import decode
from fteng.data.prepare import prepare
from fteng.data.records import Record
from fteng.errors import UserError
from fteng.export import check, folder
from fteng.export.card import plain
from fteng.export.program import classifier
from fteng.model import read_model
from fteng.paths import StudyPaths
from fteng.predict.see import make_see
from fteng.predict.views import VIEWS
from fteng.results import read_predictions


@pytest.fixture(scope="module")
def tuned(finished):
    workdir, _ = finished
    return workdir, next(path.name for path in (workdir / "trials").iterdir() if path.name.startswith("depth16"))


@pytest.mark.parametrize("which", ["trial", pytest.param("probe", marks=pytest.mark.slow)])
def test_the_model_answers_as_the_trial_did(tuned, which):
    workdir, trial = tuned
    model = read_model(workdir, trial if which == "trial" else "probe:block9")
    where = StudyPaths(workdir).trial(trial).predictions if which == "trial" else workdir / "probes" / "block9.parquet"
    wanted = read_predictions(where)["test"]
    dataset = prepare(model.config.data, model.backbone.preprocess.resampling, lambda *_: None)
    images = np.asarray(dataset.images[dataset.splits["test"]])
    assert dataset.ids[dataset.splits["test"]].tolist() == wanted.ids.tolist()
    logits = make_see(model, VIEWS["none"])(images).logits
    np.testing.assert_allclose(logits, wanted.logits, rtol=1e-3, atol=1e-3 * np.abs(wanted.logits).max())
    assert model.classes == tuple("0123456789")


@pytest.mark.slow
def test_the_file_is_the_network_bit_for_bit_and_says_what_it_is(tuned, tmp_path):
    workdir, trial = tuned
    out = tmp_path / "tuned.safetensors"
    (said,) = export.export(workdir, out, trial)
    assert trial in said
    model = read_model(workdir, trial)
    backbone, weights = load(BackboneConfig("efficientnet_lite0", str(out)))
    jax.tree.map(np.testing.assert_array_equal, weights.params, model.parameters.stages)
    jax.tree.map(np.testing.assert_array_equal, weights.stats, model.stats)
    jax.tree.map(np.testing.assert_array_equal, weights.source_head, model.parameters.head)
    assert backbone.preprocess == model.backbone.preprocess._replace(image_size=32, crop=1.0)
    with safetensors.safe_open(out, "numpy") as file:
        metadata = file.metadata()
    assert json.loads(metadata["classes"]) == list("0123456789")
    assert metadata["trial"] == trial
    pretrained = load(BackboneConfig("efficientnet_lite0", "package"))[1]
    jax.tree.map(np.testing.assert_array_equal, weights.params[:16], pretrained.params[:16])
    assert not np.array_equal(weights.params[16]["project"]["kernel"], pretrained.params[16]["project"]["kernel"])


@pytest.mark.slow
def test_a_truncated_network_says_what_is_not_there(tuned, tmp_path):
    workdir, _ = tuned
    out = tmp_path / "short.safetensors"
    assert export.main([str(workdir), "--trial=probe:block9", f"--out={out}"]) == 0
    backbone, weights = load(BackboneConfig("efficientnet_lite0", str(out), last_stage="block9"))
    assert backbone.stages[-1] == "block9"
    wanted = read_model(workdir, "probe:block9").parameters.head
    jax.tree.map(np.testing.assert_array_equal, weights.source_head, wanted)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--trial=nonsense"], "'nonsense' is no trial of this study; allowed: probe:STAGE, or one of depth"),
        (["--trial=depth"], "'depth' fits several trials; allowed: probe:STAGE, or one of depth"),
        (["--trial=probe:block99"], "no stage is called 'block99'; allowed: stem, "),
        (["--naming=keras"], "got 'keras', allowed for efficientnet_lite0: "),
        (["--out=weights.pth"], r"got weights.pth, allowed: a name that ends in \.safetensors, or a folder"),
        (["--onnx"], r"--onnx: allowed with --out=FOLDER alone"),
        (["--out=/proc/none/w.safetensors"], "cannot write /proc/none"),
    ],
)
def test_each_mistake_is_one_line(tuned, tmp_path, capsys, flags, said):
    workdir, _ = tuned
    assert export.main([str(workdir), f"--out={tmp_path / 'w.safetensors'}", *flags]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert re.search(said, told), told


def test_no_study_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"holds no study\.json"):
        read_model(tmp_path)


@pytest.fixture(scope="module")
def taken_home(tuned, tmp_path_factory):
    """(model folder of the study's probe, what the export said)."""
    out = tmp_path_factory.mktemp("home") / "model"
    return out, export.export(tuned[0], out, "probe:block3")


@pytest.mark.slow
def test_the_folder_runs_without_fteng_and_answers_as_the_study(tuned, taken_home, tmp_path):
    workdir, _ = tuned
    home, said = taken_home
    assert "checked on 32 test images" in said[0]
    model = read_model(workdir, "probe:block3")
    dataset = prepare(model.config.data, model.backbone.preprocess.resampling, lambda *_: None)
    row = dataset.splits["test"][0]
    Image.fromarray(dataset.images[row]).save(tmp_path / "image.png")
    # Elsewhere, and where importing fteng is an error.
    run = shutil.copytree(home, tmp_path / "moved") / "run.py"
    code = f"import runpy, sys; sys.modules['fteng'] = None; runpy.run_path({str(run)!r}, run_name='__main__')"
    ran = subprocess.run([sys.executable, "-c", code, "image.png"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    told = {name: float(share) for name, share in (part.split("=") for part in ran.stdout.split()[1:])}
    temperature = json.loads((home / "calibration.json").read_text())["temperature"]
    logits = np.asarray(make_see(model, VIEWS["none"])(dataset.images[[row]]).logits)[0] / temperature
    own = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert list(told) == list(model.classes)
    np.testing.assert_allclose(list(told.values()), own, atol=1e-4)


def test_the_card_says_what_the_study_found(tuned, taken_home):
    home, _ = taken_home
    card = (home / "README.md").read_text()
    summary = json.loads((tuned[0] / "report" / "summary.json").read_text())
    assert f"## Scores on {sum(summary['dataset']['counts']['test'].values())} test images" in card
    assert "not what the study recommends" in card
    probe = next(row for row in summary["probes"] if row["tap"] == "block3")
    assert f"| balanced accuracy | {probe['test']['balanced_accuracy']['value']:.3f} | " in card
    for name in ("weights.safetensors", "program.stablehlo", "preprocessing.json", "labels.json", "calibration.json", "run.py"):
        assert f"`{name}`" in card
        assert (home / name).stat().st_size > 0
    (line,) = [line for line in card.splitlines() if line.startswith("- `program.stablehlo`")]
    assert float(line.split()[-1]) <= check.TOLERANCE


def test_names_from_data_are_text_in_the_card():
    assert plain("<script>|a_b*\n`x`") == r"&lt;script&gt;\|a\_b\* \`x\`"


def test_a_part_that_answers_otherwise_leaves_no_folder(tuned, tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "serialize", lambda model, temperature: _program_of(model, temperature * 1.01))
    with pytest.raises(
        UserError, match=r"program\.stablehlo, read back, differs from the study's model by .*; nothing was exported"
    ):
        export.export(tuned[0], tmp_path / "model", "probe:stem")
    assert not list(tmp_path.iterdir())


def _program_of(model, temperature):
    images = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("n"), 32, 32, 3), np.uint8)
    return bytes(jax.export.export(jax.jit(classifier(model, temperature)))(images).serialize())


def test_without_the_images_nothing_can_be_checked(tuned, tmp_path, monkeypatch):
    def gone(*_, **__):
        raise UserError("no folder 'gone'")

    monkeypatch.setattr("fteng.model.prepare", gone)
    with pytest.raises(UserError, match="cannot check a model folder without the study's images"):
        export.export(tuned[0], tmp_path / "model", "probe:stem")


def test_a_folder_is_never_written_over(tuned, taken_home):
    with pytest.raises(UserError, match="exists; name another folder, or delete it"):
        export.export(tuned[0], taken_home[0], "probe:block3")


def _square(folder, size=32):
    how = {"image_size": size, "resize": "squash", "crop": 1.0, "interpolation": "bilinear"}
    (folder / "preprocessing.json").write_text(json.dumps(how))
    (folder / "labels.json").write_text('{"classes": ["a", "b"]}')
    shutil.copy(export.__path__[0] + "/run.py", folder)
    return runpy.run_path(str(folder / "run.py"))["square"]


def test_run_sees_16_bit_grey_as_training_does(tmp_path):
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as opened:
        assert opened.mode.startswith("I")
    seen, own = _square(tmp_path)(tmp_path / "deep.png"), decode(tmp_path / "deep.png", 32, "squash", "bilinear")
    assert np.abs(seen.astype(int) - own.astype(int)).max() <= 2
    assert np.ptp(seen) > 200
    Image.fromarray(np.full((8, 8), 70_000, np.int32)).save(tmp_path / "deeper.tiff")
    with pytest.raises(ValueError, match="beyond 16 bit"):
        _square(tmp_path)(tmp_path / "deeper.tiff")


def test_an_image_that_run_cannot_read_is_one_line(tmp_path):
    (tmp_path / "float.tiff").write_bytes(b"no image")
    record = Record("b/float.tiff", "b", "g", tmp_path / "float.tiff")
    with pytest.raises(
        UserError, match=r"run\.py cannot read b/float\.tiff, which the study could .*nothing was exported"
    ) as raised:
        check._seen(_square(tmp_path), record)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_one_broken_file_does_not_stop_the_others(tmp_path):
    _square(tmp_path)
    images = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("n"), 32, 32, 3), np.uint8)
    light = jax.jit(lambda x: jax.nn.one_hot((x.mean((1, 2, 3)) < 128).astype(int), 2))
    (tmp_path / "program.stablehlo").write_bytes(bytes(jax.export.export(light)(images).serialize()))
    Image.new("RGB", (40, 40), "white").save(tmp_path / "white.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "white.png").read_bytes()[:60])
    command = [sys.executable, "run.py", "half.png", "none.png", "white.png"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stdout == "white.png a=1.0000 b=0.0000\n"
    assert [line.partition(":")[0] for line in ran.stderr.splitlines()] == ["half.png", "none.png"]


@pytest.mark.parametrize("resize", ["squash", "crop", "letterbox", "weights"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_run_sees_the_pixels_that_the_study_saw(tmp_path, resize, interpolation):
    crop = 0.875 if resize == "weights" else 1.0
    how = {"image_size": 96, "resize": resize, "crop": crop, "interpolation": interpolation}
    (tmp_path / "preprocessing.json").write_text(json.dumps(how))
    (tmp_path / "labels.json").write_text("{}")
    shutil.copy(export.__path__[0] + "/run.py", tmp_path)
    square = runpy.run_path(str(tmp_path / "run.py"))["square"]
    photograph = Image.fromarray(load_sample_images().images[0])
    turned, clear = Image.Exif(), photograph.resize((90, 60)).convert("RGBA")
    turned[0x0112] = 6
    clear.putalpha(100)
    photograph.save(tmp_path / "drafted.jpg")
    photograph.resize((300, 200)).save(tmp_path / "turned.jpg", exif=turned)
    photograph.convert("L").save(tmp_path / "grey.jpg")
    photograph.convert("CMYK").save(tmp_path / "cmyk.jpg")
    photograph.resize((80, 640)).save(tmp_path / "narrow.png")
    clear.save(tmp_path / "clear.png")
    for file in sorted(tmp_path.glob("*.[jp][pn]g")):
        difference = np.abs(square(file).astype(int) - decode(file, 96, resize, interpolation, crop).astype(int))
        assert difference.max() <= 2, file.name
        assert difference.mean() < 0.05, file.name
