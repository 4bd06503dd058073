"""Several studies on one page: what is said of them, and what is not."""

import html
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fteng.report import compare, compare_checks, compare_rows, compare_studies
from fteng.report.__main__ import main
from tests.report.compare_fixture import make_evil_studies, make_studies
from tests.report.hostile_fixture import EVIL

ROOT = Path(__file__).parents[2]
_FIGURES = re.compile(r"<svg[^>]*role=\"img\"")


class _Tags(HTMLParser):
    """What elements a browser would make of it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def four() -> dict:
    return compare_studies.compare(make_studies(4))


@pytest.fixture(scope="module")
def page(four: dict) -> str:
    return compare.render(four, "python -m fteng.report a b c d --out=here")


def test_pairs_of_the_same_test_images_are_paired(four):
    assert [row["how"] for row in four["pairs"]] == ["paired", *["unpaired"] * 4, "paired"]
    assert four["pairs"][0]["shared_images"] == 240
    assert four["pairs"][1]["shared_images"] == 0


def test_the_same_photographs_at_another_size_are_still_paired():
    one, other = make_studies(2)
    other.summary["dataset"] |= {"digest": "of other pixels", "image_size": 64}
    found = compare_studies.compare([one, other])
    assert found["pairs"][0]["how"] == "paired"
    assert found["warnings"] == []


def test_the_same_names_of_another_data_set_are_not_paired():
    one, other = make_studies(2)
    other.summary["run"]["config"]["data"]["path"] = "data/another"
    (row,) = compare_studies.compare([one, other])["pairs"]
    assert row["how"] == "unpaired"
    assert row["shared_images"] is None


def test_numbers_are_json(four):
    assert json.loads(json.dumps(four, allow_nan=False)) == four


def test_curves_are_by_share_of_the_stages(four):
    rows = [row for row in four["studies"][0]["curve"] if not row["probe"]]
    assert [row["frozen_share"] for row in rows] == pytest.approx([0, 4 / 18, 8 / 18, 12 / 18, 16 / 18, 1])
    (probe,) = [row for row in four["studies"][0]["curve"] if row["probe"]]
    assert probe["frozen_share"] == pytest.approx(10 / 18)


def test_controls_and_other_ways_of_training_are_not_in_the_curve():
    (study,) = make_studies(1)
    row = study.summary["depth_curve"][2]
    study.summary["depth_curve"] += [row | {"variant": {"init": "random"}}, row | {"leaves": "bias"}]
    assert len(compare_studies.compare([study])["studies"][0]["curve"]) == 7


def test_page_says_what_it_is(page, four):
    tags = _Tags()
    tags.feed(page)
    links = [attributes["href"] or "" for tag, attributes in tags.found if tag == "a"]
    assert links[-4:] == [f"../study{index}/report/index.html" for index in range(4)]
    anchors = {attributes.get("id") for _, attributes in tags.found}
    assert {link[1:] for link in links if link.startswith("#")} <= anchors
    assert len(_FIGURES.findall(page)) == 10
    assert "python -m fteng.report a b c d --out=here" in page
    assert page.count(">the same, paired<") == 2
    assert "Of 6 pairs: 2 paired, 4 unpaired." in page
    tested = [row for row in four["pairs"] if row["p_holm"] < 0.05]
    assert f"{len(tested)} of 6 pairs told apart" in page
    assert page.count(">told apart<") == len(tested)


def test_nothing_is_loaded(page):
    tags = _Tags()
    tags.feed(page)
    assert not [tag for tag, _ in tags.found if tag in ("link", "img", "iframe", "object", "embed")]
    assert not [attributes for _, attributes in tags.found if "src" in attributes]
    assert "http://" not in page
    assert "https://" not in page


def test_names_are_text():
    page = compare.render(compare_studies.compare(make_evil_studies()), EVIL)
    tags = _Tags()
    tags.feed(page)
    assert sum(tag == "script" for tag, _ in tags.found) == 1
    assert not [attributes for _, attributes in tags.found if any(name.startswith("on") for name in attributes)]
    assert "1337" not in page
    assert html.escape("<script>alert('x')</script>").replace("&#x27;", "&#39;") in page


@pytest.mark.slow
def test_many_studies_stand_in_charts_of_their_own():
    twenty = compare_studies.compare(make_studies(20, trials=50))
    page = compare.render(twenty, "python -m fteng.report")
    assert sum(study["trials"]["planned"] for study in twenty["studies"]) >= 960
    assert len(twenty["pairs"]) == 190
    # Depth, mean shift and spread of each; what is recommended, two costs, the folklore.
    assert len(_FIGURES.findall(page)) == 3 * 20 + 4
    assert len(page.encode()) < 5_000_000
    assert len(json.dumps(twenty)) < 5_000_000


def test_warnings_name_what_differs():
    one, two, three = (study.summary for study in make_studies(3))
    assert compare_checks.warnings(["a", "b"], [one, two], "balanced_accuracy") == []
    two["judge"]["metric"] = "auc"
    two["judge"]["margin"] = 0.5
    two["dataset"]["classes"] = ["other", "names"]
    two["run"]["versions"]["fteng"] = "0.2.0"
    two["run"]["device"] = "a GPU"
    two["source_profile"] = {"kind": "outputs"}
    three["trials"][0]["status"] = "waiting"
    said = compare_checks.warnings(["a", "b", "c"], [one, two, three], "balanced_accuracy")
    heads = [sentence.partition(":")[0] for sentence in said]
    assert heads == [
        "Other metric",
        "Other classes",
        "Other margin or confidence",
        "Other source profile",
        "Other version",
        "Other machine",
        "Other images or another split of textile",
        "Not finished",
    ]
    assert "a, c / b; their scores answer different questions" in said[1]
    assert "a / c; those with other test images" in said[6]


def test_another_metric_does_not_hide():
    one, two, three = make_studies(3)
    three.summary["judge"]["metric"] = "auc"
    found = compare_studies.compare([three, one, two])
    assert found["metric"] == "balanced_accuracy"
    assert found["warnings"][0].startswith("Other metric: study2 chose by another metric than balanced accuracy")


def test_each_interval_is_at_the_level_of_its_study():
    one, two, three = make_studies(3)
    one.summary["judge"]["confidence"] = 0.8
    found = compare_studies.compare([one, two, three])
    assert found["confidence"] == 0.95
    assert compare_rows.levels(found) == "intervals at the level of each study (80, 95 %), which stands beside them"
    assert [row["test"].rpartition(" (")[2] for row in compare_rows.study_rows(found)] == ["80 %)", "95 %)", "95 %)"]
    assert any(warning.startswith("Other level of intervals: study0 / study1, study2;") for warning in found["warnings"])
    assert "Brackets: 95 % intervals" in compare_rows.regret_about(found)
    assert compare_rows.levels(compare_studies.compare([two, three])) == "95 % intervals"


def test_the_same_names_of_other_pixels_are_told():
    one, other = make_studies(2)
    other.summary["dataset"]["digest"] = "of other pixels"
    (warning,) = compare_studies.compare([one, other])["warnings"]
    assert warning.startswith("Other pixels: study0 / study1 name the same images at the same size")
    # Where the weights ask for another interpolation other pixels are no news.
    other.summary["weights"] = other.summary["weights"] | {"preprocess": {"interpolation": "bilinear"}}
    assert compare_studies.compare([one, other])["warnings"] == []


def test_a_page_is_not_written_over_that_of_a_study(tmp_path, capsys):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "summary.json").write_text("{}")
    (tmp_path / "file").write_text("mine")
    for out, said in (("report", "holds the page of a study"), ("file", "is a file, it must be a folder")):
        assert main([str(tmp_path), str(tmp_path), f"--out={tmp_path / out}"]) == 2
        told = capsys.readouterr().err
        assert said in told
        assert told.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_a_study_without_an_answer_has_a_row():
    one, two = make_studies(2)
    one.summary["recommendation"] = None
    found = compare_studies.compare([one._replace(answers=[]), two])
    assert "no two of them can be tested" in compare_rows.headline(found)
    assert found["warnings"][-1] == "Nothing to compare: study0 recommends nothing yet."
    assert [row["verdict"] for row in compare_rows.pair_rows(found)] == ["–"]
    assert compare_rows.study_rows(found)[0]["plan"] == "nothing yet"


def test_settings_that_differ_are_named():
    one, two = (study.summary for study in make_studies(2))
    assert compare_checks.settings([one, two]) == []
    two["run"]["config"]["train"]["epochs"] = 9
    del two["run"]["config"]["sweep"]["seeds"]
    assert compare_checks.settings([one, two]) == [
        {"key": "sweep.seeds", "values": ["0,1", "–"]},
        {"key": "train.epochs", "values": ["5", "9"]},
    ]


def test_bad_folders_are_a_line_each(tmp_path, capsys):
    assert main([str(tmp_path / "no"), str(tmp_path / "neither"), f"--out={tmp_path / 'out'}"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[2][:16] for line in said] == [" no study in " + str(tmp_path)[:3]] * 2
    assert all("give the --workdir of a run" in line for line in said)
    assert not (tmp_path / "out").exists()


def test_broken_records_are_a_line_each(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.json").write_text("{")
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all("study.json is not JSON" in line for line in said)


def test_one_study_takes_no_out(tmp_path, capsys):
    assert main([str(tmp_path), "--out=elsewhere"]) == 2
    assert "is for several studies" in capsys.readouterr().err


@pytest.mark.slow
def test_records_on_disk_become_a_page(finished, tmp_path):
    workdir, _ = finished
    for name in ("a/study", "b/study"):
        shutil.copytree(workdir, tmp_path / name)
    command = [sys.executable, "-m", "fteng.report", str(tmp_path / "a" / "study"), str(tmp_path / "b" / "study")]
    ended = subprocess.run([*command, f"--out={tmp_path / 'out'}"], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == str(tmp_path / "out" / "index.html")
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert [study["name"] for study in found["studies"]] == ["a/study", "b/study"]
    assert [study["link"] for study in found["studies"]] == ["../a/study/report/index.html", "../b/study/report/index.html"]
    (row,) = found["pairs"]
    assert (row["how"], row["difference"], row["p"]) == ("paired", 0.0, 1.0)
    assert found["warnings"] == []
    twice = subprocess.run([*command[:3], command[3], command[3]], cwd=ROOT, capture_output=True, text=True)
    assert twice.returncode == 2
    assert twice.stderr.startswith("fteng: given twice: ")
