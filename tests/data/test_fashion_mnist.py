"""A real data set, whole: Fashion-MNIST as Debian packs it, through its config, by the command a user types."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from study_runs import run

from fteng.config import DataConfig
from fteng.data.idx import read_idx
from fteng.paths import StudyPaths, read_json

FOLDER = "usr/share/datasets/fashion-mnist"


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the four files are: installed, or taken out of Debian's package, which needs neither root nor an installation."""
    if (installed := Path("/") / FOLDER).is_dir():
        return installed
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        pytest.skip("Fashion-MNIST comes as Debian's package dataset-fashion-mnist, and this is no Debian")
    place = tmp_path_factory.mktemp("debian")
    fetched = subprocess.run(["apt-get", "download", "dataset-fashion-mnist"], cwd=place, capture_output=True, text=True)
    if fetched.returncode:
        pytest.skip(f"apt-get download dataset-fashion-mnist: {fetched.stderr.strip().splitlines()[-1]}; try apt-get update")
    (package,) = place.glob("*.deb")
    subprocess.run(["dpkg", "-x", package, place], check=True)
    return place / FOLDER


@pytest.mark.slow
def test_the_package_is_the_data_set_of_the_paper(fashion: Path) -> None:
    source = read_idx(DataConfig(source="idx", path=str(fashion)))
    labels = np.array([record.label for record in source.records])
    splits = np.array([record.split for record in source.records])
    for split, each in (("train", 6000), ("test", 1000)):
        names, counts = np.unique(labels[splits == split], return_counts=True)
        assert "ankle boot" in names
        assert counts.tolist() == [each] * 10
    first = source.records[0]
    assert (first.id, first.label, np.asarray(first.image).shape) == ("train-00000", "ankle boot", (28, 28))


@pytest.mark.slow
def test_a_study_of_it_ends_in_a_recommendation(fashion: Path, tmp_path: Path) -> None:
    done = run(tmp_path / "run", f"--config.data.path={fashion}", "--config.data.limit=400", config="configs/fashion_mnist.py")
    assert done.returncode == 0, done.stderr
    summary = read_json(StudyPaths(tmp_path / "run").report / "summary.json")
    counts = summary["dataset"]["counts"]
    assert summary["dataset"]["name"] == "fashion_mnist"
    assert all(len(by_class) == 10 for by_class in counts.values())
    # 400 of 70,000, with the official share of the test set.
    assert sum(counts["test"].values()) == pytest.approx(400 / 7, abs=10)
    assert [trial["status"] for trial in summary["trials"]] == ["done", "done"]
    assert max(probe["test"]["balanced_accuracy"]["value"] for probe in summary["probes"]) > 0.4
    assert summary["recommendation"]["reason"]
