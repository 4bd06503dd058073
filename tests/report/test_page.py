"""The page as text: it is whole, it is one file, nothing in it is markup that came from data, undefined is undefined."""

import copy
import json
import math
import re
import subprocess
import sys
from contextlib import nullcontext
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
from altair.utils import schemapi
from report_fixture import METRICS, STAGES, explain, make_hostile, make_summary

import fteng
from fteng import report
from fteng.config import DataConfig
from fteng.data.isic.archive import read_isic
from fteng.report import changes, curves, drawings, final, flow, methods, view, words
from fteng.report.__main__ import main
from tests.data.isic_folder import make as make_isic

SECTIONS = (
    "answer",
    "depth",
    "final",
    "curves",
    "calibration",
    "mistakes",
    "subgroups",
    "probes",
    "profile",
    "changes",
    "cost",
    "trials",
    "alternatives",
    "data",
    "audit",
    "methods",
    "reproduce",
    "limits",
)
CHOSEN = ("final", "curves", "calibration", "mistakes", "subgroups")
ALWAYS = tuple(name for name in SECTIONS if name not in (*CHOSEN, "changes"))
JUDGED = ("balanced_accuracy",)


class Page(HTMLParser):
    """Tags with their attributes in order, text outside style and script, and which tags were left open or closed twice."""

    VOID = ("meta", "input", "br", "img", "path", "line", "circle", "rect")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).replace("\u00a0", " ").split())

    def ids(self) -> list[str]:
        return [attrs["id"] or "" for _, attrs in self.tags if "id" in attrs]


@pytest.fixture(scope="module")
def page() -> str:
    return report.render(explain(make_summary()))


@pytest.fixture(scope="module")
def parsed(page: str) -> Page:
    return Page(page)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of sentences: the figures are most of the time of a page."""
    monkeypatch.setattr(drawings, "draw", lambda _: drawings.Drawings([], [], [], [], [], None, []))


def test_says_the_answer_first(parsed: Page) -> None:
    before, _, after = parsed.text.partition(
        "Freeze the first 12 of 18 stages and tune the rest: balanced accuracy 0.86 [0.83, 0.89] on 539 test images in 360 groups."
    )
    assert after
    assert "Depth curve:" not in before
    assert "no shallower tuning comes within the margin" in after


def test_says_what_is_cheaper_and_not_told_apart() -> None:
    summary = make_summary(depths=(0, 12, 18), rates=(1e-3,), seeds=(0,))
    alternatives = summary["recommendation"]["alternatives"]
    alternatives[:] = [
        alternatives[0]
        | {"trainable_stages": [], "label": f"linear classifier on {tap}", "tap": tap, "freeze_depth": 3}
        | {"verdict": verdict, "difference": difference, "score": 0.8}
        for tap, verdict, difference in (("block2", "unclear", -0.03), ("block1", "unclear", -0.01), ("stem", "worse", -0.001))
    ]
    page = report.render(summary)
    assert "The closest that trains less: linear classifier on block1, 0.800" in page
    for row in alternatives:
        row["verdict"] = "worse"
    assert "The closest that trains less" not in report.render(summary)


def test_has_every_section_once_and_in_order(parsed: Page) -> None:
    assert [name for name in parsed.ids() if name in SECTIONS] == list(SECTIONS)
    assert len(parsed.ids()) == len(set(parsed.ids()))
    linked = [attrs["href"] or "" for tag, attrs in parsed.tags if tag == "a" and "download" not in attrs]
    assert set(linked) == {f"#{name}" for name in SECTIONS}


def test_is_well_formed(parsed: Page) -> None:
    assert parsed.wrong == []
    assert parsed.open == []
    headings = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch("h[1-6]", tag)]
    # An answer, seventeen sections, of the mistakes the pictures, and of the subgroups two tables.
    assert headings == [1, 2, 2, 2, 2, 2, 3, 2, 3, 3, *[2] * 11]


def test_no_request_can_leave_it(page: str, parsed: Page) -> None:
    for tag, attrs in parsed.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "use", "image")
        for name, value in attrs.items():
            assert name not in ("srcset", "action", "ping", "background", "poster")
            assert not name.startswith("on")
            assert name != "href" or (value or "").startswith("data:text/csv" if "download" in attrs else "#")
            assert name != "src" or (tag == "img" and (value or "").startswith("data:image/"))
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page.replace("// ", ""))
    policy = next(attrs["content"] for _, attrs in parsed.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert (policy or "").startswith("default-src 'none'")


def test_tables_and_figures_speak(parsed: Page) -> None:
    tags = [tag for tag, _ in parsed.tags]
    assert all(attrs.get("scope") in ("row", "col", "rowgroup") for tag, attrs in parsed.tags if tag == "th")
    assert tags.count("caption") == tags.count("table") == 27
    drawn = [attrs for tag, attrs in parsed.tags if tag == "svg" and "aria-hidden" not in attrs]
    # Per metric two depth curves and the probes; once two profiles, two costs, the differences, two of calibration.
    # Of the curves a pair for each class and their mean, of the changes two, and the flow of data for two widths.
    assert len(drawn) == 3 * len(METRICS) + 7 + 8 + 2 + 2
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in drawn)
    assert tags.count("figcaption") == tags.count("figure") == 12


def test_every_trial_is_a_dot_with_its_words(page: str) -> None:
    curve = page[page.index('class="wide"') :]
    curve = curve[: curve.index("</svg>")]
    titles = re.findall(r"<title>(trial [^<]*)</title>", curve)
    # One of the 24 has diverged.
    assert len(titles) == 23
    assert "trial at freeze depth 12, rate 0.001, seed 0: 0.8" in curve
    assert "recommended" in curve
    assert "chance 0.33" in curve
    assert "block11" in curve


def test_trial_that_diverged_has_no_score(parsed: Page) -> None:
    assert "– – – – – – – – 0.0003 0" in parsed.text
    assert "diverged the loss was not finite in the epoch that ended at step 28" in parsed.text
    assert "1 trial diverged or failed and carry no score" in parsed.text


def test_names_from_the_data_are_text() -> None:
    page = report.render(make_hostile())
    hostile = Page(page)
    assert [tag for tag, _ in hostile.tags].count("script") == 1
    assert hostile.wrong == []
    assert "alert(" not in "".join(re.findall(r"<script>.*?</script>", page, re.S))
    # Once in every place that shows a name: it was not dropped, and not worked out as a template.
    assert hostile.text.count("{{ 7*191 }}") > 100
    assert "1337" not in hostile.text


def test_names_no_xml_may_hold() -> None:
    summary = make_summary(depths=(0, 18), rates=(1e-3,), seeds=(0,), metrics=JUDGED)
    names = ["a\x00b", "\ud800", "\x1b[31m", "\uffff", "name\udcff.jpg", "\x7f"]
    for index, name in enumerate(names, start=4):
        summary["stages"][index] = summary["probes"][index]["tap"] = summary["profile"][index]["stage"] = name
        summary["dataset"]["left_out"].append({"id": name, "reason": name})
    page = report.render(summary)
    assert "a\ufffdb" in page
    assert "name\ufffd.jpg" in page
    assert not re.search("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff\uffff]", page)


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


@pytest.mark.usefixtures("undrawn")
def test_judged_metric_undefined_everywhere() -> None:
    summary = make_summary(depths=(12,), rates=(1e-3,), seeds=(0,), metrics=JUDGED)
    nothing = {"value": None, "low": None, "high": None}
    summary["depth_curve"][1]["test"]["balanced_accuracy"] = nothing
    shown = Page(report.render(summary))
    assert "Freeze the first 12 of 18 stages and tune the rest: balanced accuracy undefined on 539 test images in" in shown.text


@pytest.mark.usefixtures("undrawn")
def test_one_trial_only() -> None:
    shown = Page(report.render(make_summary(depths=(18,), rates=(1e-3,), seeds=(0,), metrics=JUDGED)))
    assert "Tune no stage; fit a linear classifier on the output of conv_head: balanced accuracy 0.66" in shown.text
    assert "There is no second plan to compare with." in shown.text
    assert [name for name in shown.ids() if name in SECTIONS] == list(SECTIONS)


def _unfinished() -> dict[str, Any]:
    summary = make_summary(metrics=JUDGED)
    for trial in summary["trials"]:
        trial |= {"status": "waiting", "note": "", "val": {}, "test": {}, "cost": None}
    nothing = {"depth_curve": [], "audit": [], "recommendation": None, "final": None, "calibration": None, "subgroups": []}
    return summary | nothing | dict.fromkeys(("curves", "mistakes", "confusion"))


def _without_curves() -> dict[str, Any]:
    """A summary whose page draws no figure but the calibration, so that it is quick to make."""
    summary = make_summary(metrics=JUDGED)
    return _unfinished() | {"probes": [], "profile": []} | {name: summary[name] for name in (*CHOSEN, "confusion")}


def test_no_trial_yet_says_how_far_the_study_is() -> None:
    shown = Page(report.render(_unfinished()))
    assert "No recommendation yet: no trial has finished. The study is under way: so far 0 of 24 trials ended" in shown.text
    assert "18 probes done" in shown.text
    assert "24 trials are planned" in shown.text
    assert [name for name in shown.ids() if name in SECTIONS] == list(ALWAYS)


def test_nothing_but_the_data_yet() -> None:
    shown = Page(report.render(_unfinished() | {"probes": [], "profile": [], "chance": {}}))
    assert "No probe has a score yet." in shown.text
    assert "nothing was checked" in shown.text


@pytest.mark.usefixtures("undrawn")
def test_part_of_a_study_is_called_so() -> None:
    summary = make_summary(metrics=JUDGED)
    waiting = {
        "id": "later",
        "status": "waiting",
        "val": {},
        "test": {},
        "cost": None,
        "note": "",
        "seed": 7,
        "learning_rate": 0.5,
    }
    summary["trials"].append(summary["trials"][0] | waiting)
    shown = Page(report.render(summary))
    assert "The study is not finished: 24 of 25 trials ended. The answer can change." in shown.text
    assert "24 trials of 25, in the order" in shown.text
    assert "later" not in shown.text
    assert "2 seeds a setting" in shown.text


@pytest.mark.usefixtures("undrawn")
def test_probe_that_is_recommended() -> None:
    summary = make_summary(depths=(0, 12), rates=(1e-3,), seeds=(0,), metrics=JUDGED)
    summary["recommendation"]["row"] = 0
    scored = f"balanced accuracy {words.interval(summary['probes'][9]['test']['balanced_accuracy'], 2)} on 539 test images"
    shown = Page(report.render(summary))
    assert f"Tune no stage; fit a linear classifier on the output of block9 and drop the 8 stages behind it: {scored}" in shown.text
    assert "it is 0.710 at freeze depth 0 (all tuned) and 0.860 at freeze depth 12 (up to block11)." in shown.text
    assert re.search(r"the recommended plan takes 0\.02 of the time, 0\.21 of the FLOPs\.", shown.text)


def test_plans_of_one_name_stay_apart() -> None:
    summary = make_summary(depths=(0, 12, 18), rates=(1e-3,), seeds=(0,), metrics=JUDGED)
    alternatives = summary["recommendation"]["alternatives"]
    alternatives.append(alternatives[1] | {"difference": -0.1})
    alternatives.append(summary["depth_curve"][0] | {"difference": 0.0, "low": 0.0, "high": 0.0, "p": 1.0, "verdict": "best"})
    page = report.render(summary)
    assert "<title>18 (linear probe) (2) against the best plan: −0.100" in page
    assert "<title>linear classifier on block9 against the best plan: +0.000" in page


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


@pytest.mark.usefixtures("undrawn")
def test_broken_audit_stands_at_the_top() -> None:
    summary = make_summary(depths=(0, 18), rates=(1e-3,), seeds=(0,), metrics=JUDGED)
    summary["audit"][1] |= {"passed": False, "value": 3}
    summary["audit"][2] |= {"passed": None, "value": None}
    shown = Page(report.render(summary))
    head, _, rest = shown.text.partition("Depth curve On the test")
    assert "the audit failed (statistics of kept batch norm are bit-equal)" in head
    assert "4 of 5 checks passed" in rest
    assert "✗ fail" in rest
    assert "does not apply" in rest


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


def test_three_hundred_trials_stay_small() -> None:
    summary = make_summary(depths=(0, 4, 8, 12, 16, 18), rates=(1e-3, 3e-4), seeds=range(25))
    assert len(summary["trials"]) == 300
    assert len(report.render(summary).encode()) < 1_250_000


def test_four_thousand_left_out_images_are_counted_and_some_named() -> None:
    summary = _unfinished()
    summary["dataset"]["left_out"] = [{"id": f"bad{index}.jpg", "reason": "no image"} for index in range(4000)]
    shown = Page(report.render(summary))
    assert "4,000 images left out" in shown.text
    assert "bad199.jpg" in shown.text
    assert "bad200.jpg" not in shown.text
    assert "3,800 more images in summary.json" in shown.text


def test_every_metric_of_the_plan_has_its_interval(parsed: Page) -> None:
    assert "The recommended plan on 539 test images in 360 groups, mean of 2 seeds." in parsed.text
    assert "bootstrap resamples of the groups. ROC-AUC and average precision set each class against the rest" in parsed.text
    table = parsed.text.partition("Metric Test [interval]")[2].partition("ROC and precision-recall")[0]
    assert table.startswith(" Balanced accuracy decided 0.860 [0.829, 0.891] Accuracy 0.872")
    assert "Expected calibration error lower is better 0.061 [0.041, 0.081]" in table
    assert "Brier score lower is better 0.197 [0.177, 0.217]" in table
    assert "Average precision 0.913 [0.893, 0.933]" in table


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


@pytest.mark.usefixtures("undrawn")
def test_a_score_without_an_interval_says_so() -> None:
    summary = make_summary(depths=(12,), rates=(1e-3,), seeds=(0,), metrics=JUDGED)
    summary["depth_curve"][1]["test"]["balanced_accuracy"] |= {"low": None, "high": None}
    shown = Page(report.render(summary)).text.partition("Depth curve On the test")[0]
    assert "balanced accuracy 0.86 (no interval: too few groups of the rarest class) on 539 test images" in shown
    assert "The score has no interval" in shown
    assert "Brackets" not in shown


def test_operating_points_name_their_classes() -> None:
    summary = _without_curves()
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
    summary = _without_curves()
    summary["calibration"] |= {"temperature": None, "after": None, "bins_after": None}
    summary["calibration"]["bins_before"][3:] = [{"images": 0, "forecast": None, "observed": None}] * 12
    page = report.render(summary)
    shown = Page(page)
    assert "After temperature" not in shown.text
    assert "A dot stands for 36 of 539 test images" in shown.text
    assert page.count("forecast against what came true") == 1


def test_answers_that_are_all_sure_and_right_have_an_axis() -> None:
    summary = _without_curves()
    sure = [{"images": 539, "forecast": 1.0, "observed": 1.0}, *[{"images": 0, "forecast": None, "observed": None}] * 14]
    summary["calibration"] |= {"temperature": None, "after": None, "bins_before": sure, "bins_after": None}
    page = report.render(summary)
    assert "<title>539 images: forecast 1.000, came true 1.000</title>" in page
    assert ">0.9</text>" in page


def test_answers_that_are_not_finite_have_no_diagram() -> None:
    summary = _without_curves()
    nothing = {"ece": None, "log_loss": None, "brier": None}
    empty = [{"images": 36, "forecast": float("nan"), "observed": float("nan")}] * 15
    summary["calibration"] |= {"temperature": None, "before": nothing, "after": None, "bins_before": empty, "bins_after": None}
    page = report.render(summary)
    assert "forecast against what came true" not in page
    assert "Log loss undefined" in Page(page).text


def test_subgroups_say_what_they_rest_on(parsed: Page) -> None:
    table = parsed.text.partition("Body site Balanced accuracy by Body site")[2].partition("Probes:")[0]
    assert "mill A 0.871 [0.831, 0.911] 301 150 61 global" in table
    assert "mill C no image 0 0 –" in table
    assert "not stated 0.790 too few groups for an interval 36 18 5 local" in table
    assert "60 and over balanced accuracy is undefined: a class has no image 75 37 0 global" in table
    assert "Differences between levels are not tested" in parsed.text


def test_data_are_counted_in_images_and_groups(parsed: Page) -> None:
    assert "nominal 450 in 300 groups 180 in 120 groups 270 in 180 groups 900" in parsed.text
    assert "1,799 in 1,200 groups at 240 px" in parsed.text
    assert "No group stands on both sides of a split: see the audit." in parsed.text
    assert (
        "pairs of near-identical images each pair forms one group 14 images local/roll_0000.jpg , local/roll_0001.jpg"
        in parsed.text
    )
    assert "41 images without a roll number each is its own group –" in parsed.text


def test_notes_name_the_first_images_of_many() -> None:
    summary = _unfinished()
    summary["dataset"]["notes"][0]["ids"] = [f"copy{index}.jpg" for index in range(4000)]
    shown = Page(report.render(summary))
    assert "4,000 images copy0.jpg" in shown.text
    assert "copy199.jpg and 3,800 more images in summary.json" in shown.text


@pytest.mark.parametrize("passed", [False, None])
def test_whole_groups_are_claimed_only_where_they_were_checked(passed: bool | None) -> None:
    summary = _unfinished()
    summary["audit"] = [
        {"check": "no group stands on both sides of a split", "passed": passed, "value": 3, "detail": "3 groups"},
    ]
    assert "No group stands on both sides of a split: see" not in Page(report.render(summary)).text


def test_a_summary_of_an_older_version_lacks_only_its_sections() -> None:
    summary = _without_curves()
    for name in (*CHOSEN, "confusion", "explained"):
        del summary[name]
    for name in ("notes", "groups_of_class"):
        del summary["dataset"][name]
    shown = Page(report.render(summary))
    assert [name for name in shown.ids() if name in SECTIONS] == list(ALWAYS)
    assert {attrs["href"] for tag, attrs in shown.tags if tag == "a" and "download" not in attrs} == {f"#{name}" for name in ALWAYS}
    assert "nominal 450 180 270 900" in shown.text
    assert "about the data that a reader should know" not in shown.text


def test_images_that_are_groups_are_said_so_once() -> None:
    summary = _without_curves()
    summary["dataset"] |= {"groups": {"train": 900, "val": 360, "test": 539}, "groups_of_class": summary["dataset"]["counts"]}
    summary["subgroups"] = []
    shown = Page(report.render(summary))
    assert "here every image is its own" in shown.text
    assert "nominal 450 180 270 900" in shown.text
    assert "1,799 at 240 px" in shown.text
    assert "Nothing is known about subgroups" in shown.text


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
    summary = _without_curves()
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


def test_mistakes_are_shown_with_where_it_looked(page: str, parsed: Page) -> None:
    said = parsed.text.partition("Mistakes: where it fails")[2].partition("Subgroups")[0]
    assert "71 of 539 test images (13.2 %) are answered wrong by the first seed." in said
    assert "nominal 240 20 10 88.9 %" in said
    assert "at conv_head, which has 8 × 8 places" in said
    assert "said nominal 0.990, is local local/roll_0000.jpg" in said
    pictures = [attrs for tag, attrs in parsed.tags if tag == "img"]
    # Six images with their evidence for the answer; for one of them there is evidence for the truth.
    assert len(pictures) == 13
    assert all("alt" in attrs for attrs in pictures)
    assert page.count('class="truth" src') == 1


def test_mistakes_without_pictures_say_why() -> None:
    summary = _without_curves()
    shown = Page(report.render(summary))
    assert "No pictures: the networks were not looked at." in shown.text
    assert [tag for tag, _ in shown.tags].count("img") == 0
    assert "local/roll_0000.jpg roll 0 local nominal 0.990 0.004" in shown.text
    summary["explained"] = {"saliency": None, "changes": {"images": 128, "trials": []}, "reason": ""}
    assert "No pictures: judge.pictures keeps them out" in Page(report.render(summary)).text
    summary["mistakes"] = {"count": 0, "images": 539, "rows": []}
    shown = Page(report.render(summary)).text
    assert "None of 539 test images is answered wrong by the first seed." in shown
    assert "The most confident mistakes" not in shown


def test_many_classes_are_confused_in_pairs() -> None:
    summary = _without_curves()
    names = [f"c{index}" for index in range(30)]
    counts = [[9 if row == column else 0 for column in range(30)] for row in range(30)]
    counts[4][7], counts[2][1] = 5, 1
    summary |= {"confusion": counts, "dataset": summary["dataset"] | {"classes": names}}
    shown = Page(report.render(summary)).text
    assert "True class Answer Images Of c4 c7 5 14 c2 c1 1 10" in shown


def test_what_was_frozen_is_exactly_as_it_was(page: str) -> None:
    summary = view.clean(explain(make_summary(metrics=JUDGED)))
    assert changes.finding(summary) == (
        "Before and after tuning, on 128 validation images. Of the leading stages that were frozen, 58 of 58 are exactly as they"
        " were (change 0, likeness 1). In the recommended plan conv_head says the most that is new (likeness 0.650)."
    )
    table = changes.table(summary, "relative")
    assert table[0] == ("stem", ["0.01", "(0)", "(0)", "(0)", "(0)", "(0)"])
    assert changes.table(summary, "cka")[17][1] == ["0.6500"] * 5 + ["(1)"]
    assert "12 (up to block11), block16: 0.6700" in page
    assert "16 (up to block15), block15: 1, frozen" in page
    stage = summary["explained"]["changes"]["trials"][2]["stages"][3]
    stage["cka"] = 0.98
    assert "57 of 58 are exactly as they were (change 0, likeness 1); the others had batch norm" in changes.finding(summary)


def test_changes_are_not_known_without_the_networks() -> None:
    summary = make_summary(metrics=JUDGED)
    assert changes.finding(summary) == "Not known: the networks were not looked at."
    assert changes.plans(summary) == []
    assert changes.draw(summary) == []


def test_methods_are_of_this_study() -> None:
    summary = explain(make_summary(metrics=JUDGED)) | {"pairs": [{"p": 1}]}
    paragraphs, works = methods.write(summary)
    text = " ".join(paragraphs)
    for part in (
        "We used 1,799 images in 1,200 groups of textile in 3 classes (nominal 900, local 450, global 449); 1 further image"
        " was left out.",
        "900 images in 600 groups for training, 360 images in 240 groups for validation and 539 images in 360 groups for testing,"
        " with all images of a group in one split (seed 0)",
        "efficientnet_lite0 with pretrained weights (package, sha256 579344248a93e230…)",
        "the first 0, 4, 8, 12 and 16 of the stages were frozen and those behind them tuned together with a linear head; with all"
        " stages frozen a linear head alone was trained by the same recipe, each for",
        "5 epochs (batches of 32, AdamW (Loshchilov and Hutter 2019), weight decay 0.0001, peak learning rate 0.0003 or 0.001,"
        " linear warm-up over 10 % of the steps, then cosine schedule, gradients clipped to norm 1, 2 seeds)",
        "all that were shown to lose at most 0.01 to it, the one that trains the fewest stages was recommended",
        "one-sided lower bound of their paired difference to the best lay above −0.01, with the bounds of all holding together",
        "best mean balanced accuracy",
        "2,000 bootstrap resamples of whole groups",
        "Holm’s method (Holm 1979)",
        "fteng 0.1.0, jax 0.10.2",
    ):
        assert part in text
    # Every work that the text names has its entry, and no other has.
    named = set(re.findall(r"(?<=[(;] )?([A-Z]\w+)(?: et al\.| and \w+)? (\d{4})", text))
    assert {f"{author.lower()}{year}" for author, year in named} == set(re.findall(r"@\w+\{(\w+),", works))
    assert works.count("{") == works.count("}")


def test_methods_name_what_is_not_usual() -> None:
    summary = make_summary(depths=(18,), metrics=JUDGED)
    assert "In addition with all stages frozen a linear head alone was trained" in methods.write(summary)[0][1]
    assert "tuned" not in methods.write(summary)[0][1]
    recipe = {"mixup": 0.2, "label_smoothing": 0.1, "schedule": "drops", "drops": [0.5, 0.75], "warmup_fraction": 0.0}
    summary["run"]["config"]["train"] |= recipe | {"clip_norm": 0.0, "optimizer": "sgd", "head_init": "zero", "balance": "weights"}
    summary["run"]["config"]["data"]["resize"] = "letterbox"
    summary["dataset"]["classes"] = ["nominal", "local"]
    other = {"variant": {"layer_decay": 0.7, "unfreezing": "gradual", "init": "random", "batch_norm": "batch"}}
    summary["trials"] += [
        summary["trials"][0]
        | {"freeze_depth": 4, "trainable_stages": list(STAGES[4:10]), "tap": STAGES[9], "leaves": "norm"}
        | other,
        summary["trials"][0] | {"freeze_depth": None, "trainable_stages": ["stem", "block1"]},
    ]
    text = " ".join(methods.write(summary)[0])
    for part in (
        "the first 4 of the stages were frozen and those behind them tuned together with a linear head; stem and block1 alone were",
        "SGD with momentum 0.9",
        "a tenth of the rate from 50 % and 75 % of the steps on, 2 seeds)",
        "The head read the output of block9 or conv_head, and the stages behind it were dropped.",
        "all parameters or the normalisation parameters alone trained",
        "by a factor of 0.7 or 1.",
        "unfrozen one by one from the head down over the first half of the steps, or all at once.",
        "As controls, never recommended, the same plans started from random weights.",
        "The head started from zero.",
        "Batch normalisation kept the statistics of pretraining or followed the batch in the stages that were tuned",
        "mixup, Beta(0.2, 0.2)); labels were smoothed by 0.1. Classes were weighted",
        "with their proportions kept, and grey bars, to 240 × 240 pixels",
        "count local as the positive class",
    ):
        assert part in text


def test_of_many_plans_the_compared_are_counted() -> None:
    summary = explain(make_summary(depths=range(0, 18, 2), rates=(1e-3,), seeds=(0,), metrics=JUDGED))
    del summary["explained"]["changes"]["trials"][4]
    assert "Compared are 8 of 9 plans, spread over the depths" in changes.finding(summary)
    assert changes.undrawn(summary) == 2


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_flow_of_data_has_n_at_each_step(rows: int) -> None:
    summary = _unfinished()
    summary["dataset"]["left_out"] = [{"id": f"{index}", "reason": f"reason {index}: detail {index}"} for index in range(rows)]
    for drawn in flow.draw(summary):
        shown = Page(str(drawn)).text
        assert f"{1799 + rows:,} images found" in shown
        assert "1,799 images used in 1,200 groups, kept whole" in shown
        assert "Training: 900 images in 600 groups 450 nominal 225 local 225 global weights are fitted" in shown
        assert ("left out" in shown) == (rows > 0)
        assert shown.count("1 reason") == min(rows, 4)
        assert ("3 other reasons" in shown) == (rows == 7)


def test_flow_counts_images_alone_and_what_a_policy_left_out() -> None:
    summary = _unfinished()
    dataset = summary["dataset"]
    dataset["left_out"] = [
        {"id": "README.md", "reason": "lies beside the class folders"},
        {"id": "lost.jpg", "reason": "lies beside the class folders"},
        {"id": "local/notes.txt", "reason": "not an image by its name (.txt)"},
        {"id": "local/link", "reason": "a link to a folder is not followed; put the folder itself there"},
        *({"id": f"ISIC_{n}", "reason": f"lesion IL_{n // 2} is benign and malignant in different images"} for n in range(4)),
    ]
    dataset["notes"] = [
        {"found": "7 images: no diagnosis (data.isic_unlabelled)", "done": "left out", "ids": []},
        {"found": "split 'extra' of 30 images", "done": "left out: it is none of train, validation, test", "ids": []},
        {"found": "9 images: of whom nobody is left out", "done": "kept", "ids": []},
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


def test_flow_cuts_what_would_run_out_of_its_box() -> None:
    summary = _unfinished()
    summary["dataset"]["left_out"] = [{"id": "a", "reason": "<b>" + "W" * 400}]
    for drawn in flow.draw(summary):
        assert "&lt;b&gt;" in drawn
        assert max(len(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", drawn)) < 80


def test_same_summary_same_page() -> None:
    summary = make_summary(metrics=JUDGED)
    assert report.render(json.loads(json.dumps(summary))) == report.render(summary)


def test_write_replaces_page_and_numbers_and_leaves_nothing_beside_them(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("old")
    summary = _unfinished()
    written = report.write(tmp_path / "report", summary)
    assert written.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert json.loads((tmp_path / "report" / "summary.json").read_text(encoding="utf-8")) == json.loads(json.dumps(summary))
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["index.html", "summary.json"]


def test_charts_hold_to_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    # The page draws with the checks off; here each part of each chart is checked.
    monkeypatch.setattr(schemapi, "debug_mode", lambda _: nullcontext())
    drawn = drawings.draw(view.clean(make_summary(depths=(0, 12), seeds=(0,), metrics=JUDGED)))
    assert (len(drawn.depth), len(drawn.probes), len(drawn.cost), len(drawn.reliability)) == (1, 1, 2, 2)


@pytest.mark.parametrize(
    ("depth", "tap", "said"),
    [
        (0, "conv_head", "Tune all 18 stages"),
        (1, "conv_head", "Freeze the first of 18 stages and tune the rest"),
        (18, "conv_head", "Tune no stage; fit a linear classifier on the output of conv_head"),
        (
            4,
            "block8",
            "Read the output of block8, drop the 9 stages behind it, and freeze the first 4 of 9 stages and tune the rest",
        ),
        (None, "conv_head", "Tune only stem, block1"),
    ],
)
def test_plan_in_words(depth: int | None, tap: str, said: str) -> None:
    assert words.plan(depth, tap, STAGES, ["stem", "block1"]) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0"), (0.5, "0.50"), (999, "999"), (1000, "1.00 k"), (1.64e9, "1.64 G"), (2.5e17, "250 P"), (None, "undefined")],
)
def test_quantity(value: float | None, said: str) -> None:
    assert words.quantity(value) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "< 0.1 s"), (9.96, "10 s"), (59.7, "1 min 0 s"), (3599.6, "1 h 0 min"), (11100, "3 h 5 min"), (None, "undefined")],
)
def test_duration(seconds: float | None, said: str) -> None:
    assert words.duration(seconds) == said


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fteng.report", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_help_teaches_and_needs_no_network_library() -> None:
    done = _command("--help")
    assert done.returncode == 0
    assert "WORKDIR/report/index.html" in done.stdout
    assert "example" in done.stdout
    code = "import sys, fteng.report.__main__; print([name for name in ('jax', 'altair', 'vl_convert') if name in sys.modules])"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"


def test_command_writes_numbers_and_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = _unfinished()
    monkeypatch.setattr(
        fteng, "summary", SimpleNamespace(collect=lambda workdir: summary | {"experiment": str(workdir)}), raising=False
    )
    (tmp_path / "study.json").write_text("{}")
    assert main([str(tmp_path)]) == 0
    page = tmp_path / "report" / "index.html"
    assert capsys.readouterr().out == f"{page}\n"
    assert str(tmp_path) in page.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "report" / "summary.json").read_text())["experiment"] == str(tmp_path)


def test_a_page_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fteng, "summary", SimpleNamespace(collect=lambda _: _unfinished()), raising=False)
    for name in ("study.json", "report"):
        (tmp_path / name).write_text("{}")
    assert main([str(tmp_path)]) == 2
    assert re.fullmatch(r"fteng: cannot write the page to .*report \(File exists\).*\n", capsys.readouterr().err)


def test_no_study_is_one_line(tmp_path: Path) -> None:
    done = _command(str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"fteng: no study in {tmp_path / 'nowhere'}: study.json is missing; give the --workdir of a run of python -m fteng.main"
    ]
