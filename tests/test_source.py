"""`python -m fteng.source`, and a study of a network without batch norm that is compared with what it made."""

import json
import subprocess
import sys

import numpy as np
import pytest

from fteng import paths, record, report, summary
from fteng.config import Config, to_dict
from fteng.config_check import validate
from fteng.errors import UserError
from fteng.paths import StudyPaths
from fteng.probe.source_profile import read_profile, write_profile
from fteng.progress import PlainReporter
from fteng.study import run
from tests.study_runs import ROOT

ALL_CNN = (
    "--config=configs/digits.py",
    "--config.data.image_size=16",
    "--config.backbone.name=all_cnn_c",
    "--config.backbone.weights=random",
)


def source(*flags):
    return subprocess.run([sys.executable, "-m", "fteng.source", *flags], cwd=ROOT, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The profile of 36 digits under All-CNN-C: a limit takes whole shares of classes."""
    out = tmp_path_factory.mktemp("source") / "digits.npz"
    ended = source(*ALL_CNN, "--config.data.limit=40", "--about=scans", f"--out={out}")
    assert ended.returncode == 0, ended.stderr
    assert f"--config.backbone.source_profile={out}" in ended.stdout
    return out


def study_of(source_profile: str) -> Config:
    config = Config()
    config.backbone.name, config.backbone.weights, config.backbone.source_profile = "all_cnn_c", "random", source_profile
    config.data.source, config.data.image_size, config.data.limit = "digits", 16, 60
    config.sweep.freeze_depths = ("all",)
    config.train.epochs, config.train.batch_size = 1, 16
    config.judge.resamples = 100
    return validate(config)


def profile_section(shown: dict) -> str:
    page = report.render(shown)
    whole = page[page.index('<section id="profile"') :]
    return whole[: whole.index("</section>")]


@pytest.mark.slow
def test_the_file_says_what_it_is_of(made):
    file = read_profile(made)
    said = file.header
    # All images and not the training ones alone.
    assert (said["backbone"], said["weights"], said["images"], said["image_size"]) == ("all_cnn_c", "random:0", 36, 16)
    assert (said["name"], said["about"]) == ("digits", "scans")
    assert said["command"].startswith("python -m fteng.source --config=configs/digits.py")
    assert "jax" in said["versions"]
    assert list(file.moments) == [f"conv{n}" for n in range(1, 9)]


@pytest.mark.slow
def test_a_study_of_a_network_without_batch_norm(made, tmp_path):
    files = StudyPaths(tmp_path)
    run(study_of(str(made)), files, "python -m fteng.main", PlainReporter(sys.stderr), lambda: False)
    found = summary.collect(tmp_path)
    assert found["source_profile"]["images"] == 36
    assert found["source_profile"]["sha256"] == read_profile(made).sha256
    assert [row["source"] for row in found["profile"]] == ["file"] * 8
    values = [row[key] for row in found["profile"] for key in ("mean_shift", "log_variance_ratio")]
    assert np.isfinite(values).all()
    # The same kind of images on both sides.
    assert 0 < max(values) < 0.5
    section = profile_section(found)
    assert "The source is 36 images (digits; scans) at 16 px" in section
    assert "<svg" in section
    assert "nan" not in section.lower()
    none = found | {"source_profile": {"kind": "none", "reason": "no batch norm", "advice": "profile images"}, "similarity": None}
    none["profile"] = [
        {
            **row,
            "mean_shift": None,
            "log_variance_ratio": None,
            "channels": 0,
            "source": "none",
            "reason": "there is no source profile",
        }
        for row in found["profile"]
    ]
    section = profile_section(none)
    assert "There is no source to compare with: no batch norm. To have one, profile images." in section
    assert "<svg" not in section
    assert "nan" not in section.lower()


def test_a_work_directory_keeps_to_its_source_profile(tmp_path):
    def write(path: str, sha256: str) -> None:
        config = study_of(path)
        described = {
            "weights": {"sha256": "w", "preprocess": {"mean": (1.0,)}},
            "dataset": {"digest": "d"},
            "source_profile": {"kind": "file", "path": path, "sha256": sha256},
        }
        record.write_study(StudyPaths(tmp_path), config, described, "command")

    write("a.npz", "1")
    write("a.npz", "1")
    with pytest.raises(UserError, match=r"backbone.source_profile \('a.npz' -> 'b.npz'\)"):
        write("b.npz", "1")
    with pytest.raises(UserError, match="the content of the source profile"):
        write("a.npz", "2")
    kept = paths.read_json(StudyPaths(tmp_path).study)
    assert kept["config"] == json.loads(json.dumps(to_dict(study_of("a.npz"))))


@pytest.mark.slow
def test_a_study_refuses_the_profile_of_another_network(made, tmp_path):
    file = read_profile(made)
    header = {name: value for name, value in file.header.items() if name != "format"}
    write_profile(tmp_path / "other.npz", header | {"backbone": "vgg16"}, file.moments)
    with pytest.raises(UserError, match="another backbone: got 'vgg16', needed 'all_cnn_c'"):
        run(study_of(str(tmp_path / "other.npz")), StudyPaths(tmp_path / "w"), "c", PlainReporter(sys.stderr), lambda: False)
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "--out is missing"),
        (("--out=a.npz",), "--config is missing"),
        ((*ALL_CNN, "--out=a.txt"), "ends in .npz"),
        ((*ALL_CNN, "--out=/no/such/folder/a.npz"), "no folder that can be written to"),
        ((*ALL_CNN, "--out=a.npz", "--workdir=x"), "unexpected argument '--workdir=x'"),
        ((*ALL_CNN, "--out=a.npz", "--config.data.pth=x"), "did you mean"),
    ],
)
def test_a_mistake_is_one_line(flags, said):
    ended = source(*flags)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_help_teaches():
    ended = source("--help")
    assert ended.returncode == 0
    for word in ("ALL images", "--config.backbone.source_profile", "example", "python -m fteng.main"):
        assert word in ended.stdout
