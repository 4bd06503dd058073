"""The recommended plan on the test images: every metric, calibration, subgroups."""

import re

import pytest

from fteng import report
from fteng.report import final
from tests.report.page_reader import Page
from tests.report.report_fixture import JUDGED, make_summary, make_without_curves


def test_every_metric_of_the_plan_has_its_interval(parsed: Page) -> None:
    assert "The recommended plan on 539 test images in 360 groups, mean of 2 seeds." in parsed.text
    assert "bootstrap resamples of the groups. ROC-AUC and average precision set each class against the rest" in parsed.text
    table = parsed.text.partition("Metric Test [interval]")[2].partition("ROC and precision-recall")[0]
    assert table.startswith(" Balanced accuracy decided 0.860 [0.829, 0.891] Accuracy 0.872")
    assert "Expected calibration error lower is better 0.061 [0.041, 0.081]" in table
    assert "Brier score lower is better 0.197 [0.177, 0.217]" in table
    assert "Average precision 0.913 [0.893, 0.933]" in table


def test_operating_points_name_their_classes() -> None:
    summary = make_without_curves()
    summary |= {"curves": None, "mistakes": None}
    summary["dataset"] |= {"classes": ["benign", "malignant"]}
    summary["dataset"]["counts"] = {split: {"benign": 9, "malignant": 3} for split in ("train", "val", "test")}
    point = {"value": 0.61, "low": None, "high": None}
    summary["final"]["metrics"] = {"sensitivity_at_specificity_95": point, "balanced_accuracy": point, "new_metric": point}
    summary["final"]["labels"] = {"sensitivity_at_specificity_95": "sensitivity at 95 % specificity"}
    summary["calibration"] |= {"temperature": 0.84}
    shown = Page(report.render(summary))
    assert (
        "The positive class is malignant, the last by the alphabet: sensitivity is the share of malignant that is found"
        in shown.text
    )
    assert "Sensitivity at 95 % specificity 0.610 New metric 0.610 " in shown.text
    assert "The probability of malignant against how often it came true, for the first seed." in shown.text
    assert "is 0.84: the network is less sure of itself than it could be." in shown.text


def test_calibration_says_what_the_temperature_does(page: str, parsed: Page) -> None:
    assert "The temperature fitted on the validation images is 1.43: the network is too sure of itself." in parsed.text
    assert "the expected calibration error on 539 test images falls from 0.061 to 0.022" in parsed.text
    assert "Brier score 0.197 0.189" in parsed.text
    assert "A dot stands for 35 to 37 of 539 test images" in parsed.text
    for panel, first in (("As trained", "0.440, came true 0.390"), ("After temperature 1.43", "0.410, came true 0.400")):
        drawn = page[page.index(f'aria-label="{panel}: forecast') :]
        titles = re.findall("<title>([^<]*)</title>", drawn[: drawn.index("</svg>")])
        assert len(titles) == 15
        assert titles[0] == f"36 images: forecast {first}"


@pytest.mark.parametrize(("accuracy", "said"), [(1.0, "every one is classified right"), (0.97, "there is none where every image")])
def test_no_temperature_says_why(accuracy: float, said: str) -> None:
    summary = make_summary(depths=(12,), rates=(1e-3,), seeds=(0,), metrics=(*JUDGED, "accuracy"))
    for row in summary["depth_curve"]:
        row["val"]["accuracy"] = {"value": accuracy, "low": accuracy, "high": accuracy}
    summary["calibration"] |= {"temperature": None, "after": None, "bins_after": None}
    assert final.calibration_finding(summary).startswith(f"No temperature could be fitted on the validation images: {said}")


def test_without_a_temperature_there_is_no_after() -> None:
    summary = make_without_curves()
    summary["calibration"] |= {"temperature": None, "after": None, "bins_after": None}
    summary["calibration"]["bins_before"][3:] = [{"images": 0, "forecast": None, "observed": None}] * 12
    page = report.render(summary)
    shown = Page(page)
    assert "After temperature" not in shown.text
    assert "A dot stands for 36 of 539 test images" in shown.text
    assert page.count("forecast against what came true") == 1


def test_answers_that_are_all_sure_and_right_have_an_axis() -> None:
    summary = make_without_curves()
    sure = [{"images": 539, "forecast": 1.0, "observed": 1.0}, *[{"images": 0, "forecast": None, "observed": None}] * 14]
    summary["calibration"] |= {"temperature": None, "after": None, "bins_before": sure, "bins_after": None}
    page = report.render(summary)
    assert "<title>539 images: forecast 1.000, came true 1.000</title>" in page
    assert ">0.9</text>" in page


def test_answers_that_are_not_finite_have_no_diagram() -> None:
    summary = make_without_curves()
    nothing = {"ece": None, "log_loss": None, "brier": None}
    empty = [{"images": 36, "forecast": float("nan"), "observed": float("nan")}] * 15
    summary["calibration"] |= {"temperature": None, "before": nothing, "after": None, "bins_before": empty, "bins_after": None}
    page = report.render(summary)
    assert "forecast against what came true" not in page
    assert "Log loss undefined" in Page(page).text


def test_subgroups_say_what_they_rest_on(parsed: Page) -> None:
    table = parsed.text.partition("Body site Balanced accuracy by Body site")[2].partition("Probes:")[0]
    assert "mill A 0.871 [0.831, 0.911] 301 150 61 global" in table
    assert "not stated 0.790 too few groups for an interval 36 18 5 local" in table
    assert "60 and over balanced accuracy is undefined: a class has no image 75 37 0 global" in table
    assert "Differences between levels are not tested" in parsed.text
