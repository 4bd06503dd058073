"""The figures: every mark with its words, every chart within its schema."""

import re
from contextlib import nullcontext

import pytest
from altair.utils import schemapi

from fteng import report
from fteng.report import drawings, figures, view
from fteng.report.figures import Mark
from tests.report.report_fixture import JUDGED, make_summary


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


def test_trials_that_ran_away_stand_at_the_edge_and_leave_the_axis_to_the_plans() -> None:
    summary = make_summary(depths=(0, 12, 18), metrics=JUDGED)
    metric = summary["judge"]["metric"]
    away = [trial for trial in summary["trials"] if trial["test"] and trial["freeze_depth"] < 18 and trial["learning_rate"] == 1e-3]
    for index, trial in enumerate(away):
        trial["test"][metric] = 0.01 * index
    (_, (wide, narrow)), *_ = drawings.draw(view.clean(summary)).depth
    said = f"{len(away)} trials (0.00 to 0.0{len(away) - 1}) below this axis"
    assert said in wide
    assert said in narrow
    ticks = [float(found) for found in re.findall(r">(\d\.\d\d)</text>", wide)]
    assert min(ticks) >= 0.3
    # Of trials on either side that are near, and of chance, the plans' own range decides.
    near = figures._domain([Mark(0, 0.91, 0.905, 0.925, "")], 0.78, [0.886, 0.944])
    assert near == pytest.approx((0.886 - 0.06 * 0.058, 0.944 + 0.06 * 0.058))
    # Each still says its own number.
    assert f"rate 0.001, seed {away[1]['seed']}: 0.010" in wide
    assert 'class="trials_below"' in wide


def test_plans_of_one_name_stay_apart() -> None:
    summary = make_summary(depths=(0, 12, 18), rates=(1e-3,), seeds=(0,), metrics=JUDGED)
    alternatives = summary["recommendation"]["alternatives"]
    alternatives.append(alternatives[1] | {"difference": -0.1})
    alternatives.append(summary["depth_curve"][0] | {"difference": 0.0, "low": 0.0, "high": 0.0, "p": 1.0, "verdict": "best"})
    page = report.render(summary)
    assert "<title>18 (linear probe) (2) against the best plan: −0.100" in page
    assert "<title>linear classifier on block9 against the best plan: +0.000" in page


def test_charts_hold_to_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    # The page draws with the checks off; here each part of each chart is checked.
    monkeypatch.setattr(schemapi, "debug_mode", lambda _: nullcontext())
    drawn = drawings.draw(view.clean(make_summary(depths=(0, 12), seeds=(0,), metrics=JUDGED)))
    assert (len(drawn.depth), len(drawn.probes), len(drawn.cost), len(drawn.reliability)) == (1, 1, 2, 2)
