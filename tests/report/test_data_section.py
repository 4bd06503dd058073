"""The data: counted in images and groups, with what was left out and what a reader should know."""

import pytest

from fteng import report
from tests.report.page_reader import Page
from tests.report.report_fixture import make_unfinished, make_without_curves


def test_data_are_counted_in_images_and_groups(parsed: Page) -> None:
    assert "nominal 450 in 300 groups 180 in 120 groups 270 in 180 groups 900" in parsed.text
    assert "1,799 in 1,200 groups at 240 px" in parsed.text
    assert "No group stands on both sides of a split: see the audit." in parsed.text
    assert (
        "pairs of near-identical images each pair forms one group 14 images local/roll_0000.jpg , local/roll_0001.jpg"
        in parsed.text
    )
    assert "41 images without a roll number each is its own group –" in parsed.text


def test_images_that_are_groups_are_said_so_once() -> None:
    summary = make_without_curves()
    summary["dataset"] |= {"groups": {"train": 900, "val": 360, "test": 539}, "groups_of_class": summary["dataset"]["counts"]}
    summary["subgroups"] = []
    shown = Page(report.render(summary))
    assert "here every image is its own" in shown.text
    assert "nominal 450 180 270 900" in shown.text
    assert "1,799 at 240 px" in shown.text
    assert "Nothing is known about subgroups" in shown.text


@pytest.mark.parametrize("passed", [False, None])
def test_whole_groups_are_claimed_only_where_they_were_checked(passed: bool | None) -> None:
    summary = make_unfinished()
    summary["audit"] = [
        {"check": "no group stands on both sides of a split", "passed": passed, "value": 3, "detail": "3 groups"},
    ]
    assert "No group stands on both sides of a split: see" not in Page(report.render(summary)).text


def test_notes_name_the_first_images_of_many() -> None:
    summary = make_unfinished()
    summary["dataset"]["notes"][0]["ids"] = [f"copy{index}.jpg" for index in range(4000)]
    shown = Page(report.render(summary))
    assert "4,000 images copy0.jpg" in shown.text
    assert "copy199.jpg and 3,800 more images in summary.json" in shown.text


def test_four_thousand_left_out_images_are_counted_and_some_named() -> None:
    summary = make_unfinished()
    summary["dataset"]["left_out"] = [{"id": f"bad{index}.jpg", "reason": "no image"} for index in range(4000)]
    shown = Page(report.render(summary))
    assert "4,000 images left out" in shown.text
    assert "bad199.jpg" in shown.text
    assert "bad200.jpg" not in shown.text
    assert "3,800 more images in summary.json" in shown.text
