"""The answer, first on the page: what it recommends, on what it rests, and how far a study is that has none yet."""

import re

import pytest

from fteng import report
from fteng.report import findings, words
from tests.report.page_reader import ALWAYS, SECTIONS, Page
from tests.report.report_fixture import JUDGED, STAGES, make_summary, make_unfinished


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
    assert "comes closest, and these images cannot tell it from the best: tune no stage; fit a linear classifier on the" in page
    assert "output of block1" in page
    assert "It has 0.800 balanced accuracy on validation." in page
    alternatives[1] |= {"label": "linear classifier on block1, trained by steps"}
    assert "block1 and drop the 16 stages behind it (trained by steps). It has 0.800 balanced" in report.render(summary)
    for row in alternatives:
        row["verdict"] = "worse"
    assert "comes closest" not in report.render(summary)


def test_a_choice_by_too_few_images_is_a_warning_with_the_advice_that_did_without_them() -> None:
    summary = make_summary(depths=(12,), rates=(1e-3,), seeds=(0,), metrics=JUDGED)
    assert findings.answer(summary)["warnings"] == []
    summary["recommendation"] |= {"groups": 1, "too_few": True}
    luck = (
        "Too few validation images to choose by: balanced accuracy tells there what 1 independent group would, so which plan is"
        " best is hardly more than luck. Add images, or give more of them to validation."
    )
    assert findings.answer(summary)["warnings"] == [luck]
    summary["similarity"] = {"advice": {"ours": {"plan": {"freeze_depth": 6, "tap": STAGES[-1], "tuned": True}}}}
    advised = "From the training images alone, before the sweep, the advice was: freeze the first 6 of 18 stages and tune the rest."
    assert findings.answer(summary)["warnings"] == [f"{luck} {advised}"]


@pytest.mark.usefixtures("undrawn")
def test_judged_metric_undefined_everywhere() -> None:
    summary = make_summary(depths=(12,), rates=(1e-3,), seeds=(0,), metrics=JUDGED)
    nothing = {"value": None, "low": None, "high": None}
    summary["depth_curve"][1]["test"]["balanced_accuracy"] = nothing
    shown = Page(report.render(summary))
    assert "Freeze the first 12 of 18 stages and tune the rest: balanced accuracy undefined on 539 test images in" in shown.text


@pytest.mark.usefixtures("undrawn")
def test_a_score_without_an_interval_says_so() -> None:
    summary = make_summary(depths=(12,), rates=(1e-3,), seeds=(0,), metrics=JUDGED)
    summary["depth_curve"][1]["test"]["balanced_accuracy"] |= {"low": None, "high": None}
    shown = Page(report.render(summary)).text.partition("Depth curve On the test")[0]
    assert "balanced accuracy 0.86 (no interval: too few groups of the rarest class) on 539 test images" in shown
    assert "The score has no interval" in shown
    assert "Brackets" not in shown


@pytest.mark.usefixtures("undrawn")
def test_one_trial_only() -> None:
    shown = Page(report.render(make_summary(depths=(18,), rates=(1e-3,), seeds=(0,), metrics=JUDGED)))
    assert (
        "Tune no stage; fit a linear classifier on the output of conv_head (trained by steps): balanced accuracy 0.66" in shown.text
    )
    assert "There is no second plan to compare with." in shown.text
    assert [name for name in shown.ids() if name in SECTIONS] == list(SECTIONS)


@pytest.mark.usefixtures("undrawn")
def test_probe_that_is_recommended() -> None:
    summary = make_summary(depths=(0, 12), rates=(1e-3,), seeds=(0,), metrics=JUDGED)
    summary["recommendation"]["row"] = 0
    scored = f"balanced accuracy {words.interval(summary['probes'][9]['test']['balanced_accuracy'], 2)} on 539 test images"
    shown = Page(report.render(summary))
    assert f"Tune no stage; fit a linear classifier on the output of block9 and drop the 8 stages behind it: {scored}" in shown.text
    assert "it is 0.710 at freeze depth 0 (all tuned) and 0.860 at freeze depth 12 (up to block11)." in shown.text
    assert re.search(r"the recommended plan takes 0\.02 of the time, 0\.21 of the FLOPs\.", shown.text)


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


def test_no_trial_yet_says_how_far_the_study_is() -> None:
    shown = Page(report.render(make_unfinished()))
    assert "No recommendation yet: no trial has finished. The study is under way: so far 0 of 24 trials ended" in shown.text
    assert "18 probes done" in shown.text
    assert "24 trials are planned" in shown.text
    assert [name for name in shown.ids() if name in SECTIONS] == list(ALWAYS)


def test_nothing_but_the_data_yet() -> None:
    shown = Page(report.render(make_unfinished() | {"probes": [], "profile": [], "chance": {}}))
    assert "No probe has a score yet." in shown.text
    assert "nothing was checked" in shown.text


@pytest.mark.usefixtures("undrawn")
def test_limits_count_the_seeds_that_were_trained() -> None:
    summary = make_summary(metrics=JUDGED)
    for row in summary["trials"]:
        if row["freeze_depth"] < 8 and (row["seed"] == 1 or row["learning_rate"] == 1e-3):
            row |= {"status": "not run", "note": "a seed that the race did not need", "val": {}, "test": {}, "cost": None}
    told = " ".join(findings.limits(summary))
    assert "1 to 2 seeds a setting" in told
    assert "2 learning rates tried" in told


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
