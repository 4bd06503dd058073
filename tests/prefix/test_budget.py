from pathlib import Path

import pytest

from fteng.entry import Entry
from fteng.prefix.budget import Prices, Room, Want, choose, free_room

MIB = 2**20
# A second an image to stage 4, two to 8, three to 12.
SECONDS = {0: 0.0, 4: 1.0, 8: 2.0, 12: 3.0}


def want(stage: int, images: float, mib: float, *, pooled: bool = False) -> Want:
    return Want(Entry(stage, pooled), images, int(mib * MIB))


def places(choices):
    return {choice.entry.stage: choice.place for choice in choices}


def test_what_saves_most_a_byte_comes_first_and_the_rest_goes_to_disk_or_is_recomputed():
    wants = [want(4, 1000, 100), want(8, 1000, 20), want(12, 1000, 10)]
    prices = Prices(SECONDS, 100)
    assert places(choose(wants, prices, Room(0, 200 * MIB, 0))) == {4: "memory", 8: "memory", 12: "memory"}
    assert places(choose(wants, prices, Room(0, 30 * MIB, 0))) == {4: "", 8: "memory", 12: "memory"}
    assert places(choose(wants, prices, Room(0, 30 * MIB, 100 * MIB))) == {4: "disk", 8: "memory", 12: "memory"}
    assert places(choose(wants, prices, Room(12 * MIB, 30 * MIB, 0))) == {4: "", 8: "memory", 12: "device"}
    left = choose(wants, prices, Room(0, 30 * MIB, 0))[0]
    assert "100 MiB are more than the budget of 30 MiB" in left.reason
    assert left.seconds == pytest.approx(1000)


def test_saved_seconds_are_those_of_the_whole_study_with_and_without():
    """1,000 images to stage 8 at 2 s each, against one walk of 100 images: 2,000 - 200."""
    (choice,) = choose([want(8, 1000, 1)], Prices(SECONDS, 100), Room(0, MIB, 0))
    assert choice.saved == pytest.approx(1800)
    # With 4 kept, what is recomputed at 8 starts there.
    lower, upper = choose([want(4, 1000, 1), want(8, 1000, 10)], Prices(SECONDS, 100), Room(0, 2 * MIB, 0))
    assert lower.place == "memory"
    assert upper.place == ""
    assert lower.saved == pytest.approx(1000 + 1000 - 100)


def test_a_cache_that_would_not_pay_is_not_filled():
    (choice,) = choose([want(8, 100, 1)], Prices(SECONDS, 100), Room(0, MIB, 0))
    assert choice.place == ""
    assert "saves nothing" in choice.reason


def test_the_images_themselves_are_never_copied():
    (choice,) = choose([want(0, 1e9, 0.001)], Prices(SECONDS, 1), Room(0, MIB, MIB))
    assert choice.place == ""


def test_a_budget_of_nothing_keeps_nothing(tmp_path: Path):
    assert free_room(0.0, 0.0, tmp_path) == Room(0, 0, 0)
    assert free_room(1.5, 0.25, tmp_path)[1:] == (int(1.5 * 2**30), 2**28)
    assert free_room(-1.0, -1.0, tmp_path).memory > 0
