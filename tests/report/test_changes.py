"""What tuning changed, stage by stage."""

from fteng.report import changes, view
from tests.report.report_fixture import JUDGED, explain, make_summary


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


def test_of_many_plans_the_compared_are_counted() -> None:
    summary = explain(make_summary(depths=range(0, 18, 2), rates=(1e-3,), seeds=(0,), metrics=JUDGED))
    del summary["explained"]["changes"]["trials"][4]
    assert "Compared are 8 of 9 plans, spread over the depths" in changes.finding(summary)
    assert changes.undrawn(summary) == 2
