"""Plans, quantities and durations in words."""

import pytest

from fteng.report import words
from tests.report.report_fixture import STAGES


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


def test_a_way_of_training_stands_beside_every_plan() -> None:
    assert words.plan(12, "conv_head", STAGES, [], "bias only").endswith("tune the rest (bias only)")
    assert words.plan(18, "conv_head", STAGES, [], "batch norm adapted").endswith("the output of conv_head (batch norm adapted)")


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
