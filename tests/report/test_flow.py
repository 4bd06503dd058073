"""From the images that were found to those that were tested on: n at each step, and what was left out."""

import re
from pathlib import Path

import pytest

from fteng import report
from fteng.config import DataConfig
from fteng.data.isic.archive import read_isic
from fteng.data.records import LeftOut, Note
from fteng.report import flow, methods, view
from tests.data.isic_folder import make as make_isic
from tests.report.page_reader import Page
from tests.report.report_fixture import make_unfinished


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_flow_of_data_has_n_at_each_step(rows: int) -> None:
    summary = make_unfinished()
    summary["dataset"]["left_out"] = [
        LeftOut(f"{index}", f"reason {index}: detail {index}", f"reason {index}")._asdict() for index in range(rows)
    ]
    for drawn in flow.draw(summary):
        shown = Page(str(drawn)).text
        assert f"{1799 + rows:,} images found" in shown
        assert "1,799 images used in 1,200 groups, kept whole" in shown
        assert "Training: 900 images in 600 groups 450 nominal 225 local 225 global weights are fitted" in shown
        assert ("left out" in shown) == (rows > 0)
        assert shown.count("1 reason") == min(rows, 4)
        assert ("3 other reasons" in shown) == (rows == 7)


def test_flow_counts_images_alone_and_what_a_policy_left_out() -> None:
    summary = make_unfinished()
    dataset = summary["dataset"]
    dataset["left_out"] = [
        LeftOut("README.md", "lies beside the class folders", is_image=False)._asdict(),
        LeftOut("lost.jpg", "lies beside the class folders")._asdict(),
        LeftOut("local/notes.txt", "not an image by its name (.txt)", is_image=False)._asdict(),
        LeftOut("local/link", "a link to a folder is not followed", is_image=False)._asdict(),
        *(LeftOut(f"ISIC_{n}", f"lesion IL_{n // 2}", "of lesions with different labels")._asdict() for n in range(4)),
    ]
    dataset["notes"] = [
        Note("7 images: no diagnosis", "left out", (), ("no diagnosis (data.isic_unlabelled)", 7))._asdict(),
        Note("split 'extra' of 30 images", "left out", (), ("split 'extra'", 30))._asdict(),
        Note("9 images: of whom nobody is left out", "kept", ())._asdict(),
    ]
    for drawn in flow.draw(summary):
        shown = Page(str(drawn)).text
        assert f"{1799 + 5 + 37:,} images listed" in shown
        assert "42 images left out 30 split 'extra' 7 no diagnosis 4 of lesions with different labels" in shown
        assert "takes part in no choice" in shown
    assert "42 further images were left out" in methods.write(summary)[0][0]
    shown = Page(report.render(summary | {"probes": [], "profile": []})).text
    assert "5 images could not be used, named below. 3 other files are no images." in shown
    assert "5 images and 3 other files left out" in shown


def test_flow_reads_the_notes_of_a_source(tmp_path: Path) -> None:
    traps = make_isic(tmp_path / "isic")
    source = read_isic(DataConfig(source="isic", path=str(tmp_path / "isic")))
    dataset = {"notes": [note._asdict() for note in source.notes], "left_out": [item._asdict() for item in source.left_out]}
    assert ("no diagnosis (data.isic_unlabelled)", 1) in view.excluded(dataset)
    assert sum(images for _, images in view.excluded(dataset)) == 6
    assert {row["id"] for row in view.images_left_out(dataset)} >= {*traps.contradicting_lesion}
    kinds = {row["kind"] for row in dataset["left_out"]}
    assert kinds == {"", "with table rows that disagree", "of lesions with different labels"}


def test_flow_cuts_what_would_run_out_of_its_box() -> None:
    summary = make_unfinished()
    summary["dataset"]["left_out"] = [LeftOut("a", "<b>" + "W" * 400)._asdict()]
    for drawn in flow.draw(summary):
        assert "&lt;b&gt;" in drawn
        assert max(len(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", drawn)) < 80
