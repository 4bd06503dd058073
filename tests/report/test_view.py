"""Trials, plans and pairs as rows of tables: each under its own name, undefined is undefined."""

import copy
import re

import pytest

from fteng import report
from fteng.report import words
from tests.report.page_reader import Page
from tests.report.report_fixture import JUDGED, make_summary


def test_trial_that_diverged_has_no_score(parsed: Page) -> None:
    assert "– – – – – – – – 0.0003 0" in parsed.text
    assert "diverged the loss was not finite in the epoch that ended at step 28" in parsed.text
    assert "1 trial diverged or failed and carry no score" in parsed.text


def test_null_is_undefined_and_never_zero() -> None:
    summary = make_summary(depths=(0, 12, 18), rates=(1e-3,), seeds=(0,))
    for row in [*summary["probes"], *summary["depth_curve"]]:
        row["test"]["auc"] = {"value": None, "low": None, "high": None}
        row["val"]["auc"] = None if "l2" in row else row["test"]["auc"]
    for trial in summary["trials"]:
        trial["test"] |= {"auc": None}
        trial["val"] |= {"auc": None}
    summary["depth_curve"][1]["test"]["log_loss"] = {"value": 0.31, "low": None, "high": None}
    summary["profile"][3] |= {"mean_shift": None, "log_variance_ratio": None, "channels": 0}
    summary["chance"]["auc"] = None
    summary["probes"][0]["l2"] = float("nan")
    summary["recommendation"]["alternatives"][0] |= {"difference": None, "low": None, "high": None, "p": None}
    page = report.render(summary)
    shown = Page(page)
    assert shown.text.count("undefined") > 20
    assert not re.search(r"\b(nan|NaN|None|inf|null)\b", shown.text)
    assert "ROC-AUC on test images" not in shown.text
    assert "0.310 [" not in shown.text


def test_plans_beyond_the_prefix_and_several_taps() -> None:
    summary = make_summary(depths=(0, 12), rates=(1e-3,), seeds=(0,), metrics=JUDGED)
    curve, trials = summary["depth_curve"], summary["trials"]
    curve.append(copy.deepcopy(curve[1]) | {"freeze_depth": None, "trainable_stages": ["stem", "block1"], "label": "only some"})
    curve.append(copy.deepcopy(curve[1]) | {"freeze_depth": 8, "tap": "block8", "trainable_stages": ["block8"]})
    curve.append(copy.deepcopy(curve[1]) | {"leaves": "norm"})
    trials.append(trials[0] | {"id": "set-1", "tap": "block8", "freeze_depth": None, "trainable_stages": ["stem", "block1"]})
    summary["recommendation"]["row"] = 3
    shown = Page(report.render(summary))
    assert "Tune only stem, block1: balanced accuracy 0.71" in shown.text
    for text in (
        "only some, tap conv_head",
        "8 (up to block7), tap block8",
        "only stem, block1, tap block8",
        "0 (all tuned), norm only",
    ):
        assert text in shown.text
    assert "tap conv_head, norm only" in shown.text


@pytest.mark.usefixtures("undrawn")
def test_delong_stands_beside_the_corrected_p_where_there_is_one() -> None:
    summary = make_summary(depths=(0, 12, 18), rates=(1e-3,), seeds=(0,), metrics=JUDGED)
    assert "DeLong" not in Page(report.render(summary)).text
    alternatives = summary["recommendation"]["alternatives"]
    for row, p in zip(alternatives, (0.0421, None), strict=True):
        row["delong_p"] = p
    shown = Page(report.render(summary)).text
    assert f"{words.p_value(alternatives[0]['p'])} 0.042 {alternatives[0]['verdict']}" in shown
    assert f"{words.p_value(alternatives[1]['p'])} undefined {alternatives[1]['verdict']}" in shown
    assert "DeLong’s test is a check, not what decides" in shown


@pytest.mark.usefixtures("undrawn")
def test_every_pair_of_the_curve_has_its_corrected_p() -> None:
    summary = make_summary(depths=(0, 12), rates=(1e-3,), seeds=(0,), metrics=JUDGED)
    assert "Every pair" not in Page(report.render(summary)).text
    values = {"difference": -0.15, "low": -0.2, "high": -0.1, "p": 0.0001, "p_holm": 0.0123}
    nothing = dict.fromkeys(values)
    summary["pairs"] = [{"first": 0, "second": 1} | values, {"first": 1, "second": 2} | nothing]
    shown = Page(report.render(summary)).text
    assert "balanced accuracy, the first less the second, on 539 test images" in shown
    assert "p corrected for 2 comparisons (Holm)" in shown
    assert "linear classifier on block9 0 (all tuned) −0.150 [−0.200, −0.100] < 0.001 0.012" in shown
    assert "0 (all tuned) 12 (up to block11) undefined undefined undefined" in shown
