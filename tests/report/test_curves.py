"""ROC and precision-recall: what the curves are of, and their operating points."""

import math
from urllib.parse import unquote

import pytest

from fteng import report
from fteng.report import curves
from tests.report.page_reader import Page
from tests.report.report_fixture import make_without_curves


def test_curves_say_what_they_are_of(page: str, parsed: Page) -> None:
    said = parsed.text.partition("ROC and precision-recall Each class is set against the rest")[2].partition("Calibration:")[0]
    assert "mean of 2 seeds. The bands are 95 % intervals at each place, from 500 bootstrap resamples of the groups" in said
    assert "Specificity ≥ 90 % 0.710 [0.600, 0.800] sensitivity 0.25 0.680 [0.570, 0.780] 0.880 [0.800, 0.930]" in said
    assert "33.3 % of the test images are local" in said
    assert "each seed has one of its own; shown is that of the first" in said
    drawn = page[page.index('aria-label="ROC curve, nominal;') :]
    drawn = drawn[: drawn.index("</svg>")]
    assert "<title>specificity 90%: sensitivity 0.710 [0.600, 0.800]</title>" in drawn
    # The point stands where specificity is 0.9 and sensitivity 0.71.
    assert '<circle cx="25" cy="73" r="4">' in drawn
    files = [attrs["href"] or "" for tag, attrs in parsed.tags if tag == "a" and "download" in attrs]
    assert len(files) == 4
    lines = unquote(files[0].partition(",")[2]).splitlines()
    assert lines[0] == "curve,at,value,low,high"
    assert len(lines) == 1 + 66 + 50
    assert lines[-1] == "precision-recall,1,0.5,0.45,0.55"


def test_two_classes_have_one_curve_and_it_says_which() -> None:
    summary = make_without_curves()
    summary["dataset"] |= {"classes": ["benign", "malignant"]}
    summary["curves"] |= {"classes": 2, "rows": [summary["curves"]["rows"][2] | {"positive": "malignant"}], "seeds": 1}
    shown = Page(report.render(summary | {"mistakes": None}))
    assert "The class malignant is the positive one, the last by the alphabet." in shown.text
    assert "Positive class" not in shown.text
    point = summary["curves"]["rows"][0]["points"][0] | {"best": dict.fromkeys(("value", "low", "high"))}
    point |= {"threshold": None, "sensitivity": None, "specificity": None}
    row = summary["curves"]["rows"][0] | {"points": [point]}
    row |= {
        name: {"at": row[name]["at"]} | dict.fromkeys(("value", "low", "high"), [None] * len(row[name]["at"]))
        for name in ("roc", "precision")
    }
    shown = Page(report.render(summary | {"mistakes": None, "curves": summary["curves"] | {"rows": [row]}}))
    assert "the test images or the answers do not allow a curve for malignant" in shown.text
    assert "Specificity ≥ 90 % undefined sensitivity – – –" in shown.text


@pytest.mark.parametrize(
    ("log_odds", "raw", "calibrated"),
    [(-1.1, "0.25", "0.366"), (8.0, "0.99966", "0.982"), (30.0, "1 − 9.4e-14", "1 − 3.1e-07"), (-30.0, "9.36e-14", "3.06e-07")],
)
def test_thresholds_near_one_keep_their_digits(log_odds: float, raw: str, calibrated: str) -> None:
    point = {"keeps": "specificity", "level": 0.9, "best": dict.fromkeys(("value", "low", "high"))}
    point |= {"threshold": 1 / (1 + math.exp(-log_odds)), "log_odds": log_odds, "sensitivity": None, "specificity": None}
    summary = {"curves": {"classes": 2}, "calibration": {"temperature": 2.0}}
    (shown,) = curves.points({"points": [point]}, summary)
    assert curves.is_calibrated(summary)
    assert shown["threshold"] == raw
    assert shown["calibrated"] == calibrated
