"""Rows of the profile: the measures, what they are of, and why a stage has none."""

import numpy as np
import pytest

from fteng.similarity.against_source import SourceMoments, compare_with_source, profile


def layer(mean, var):
    return {"mean": np.asarray(mean, np.float32), "var": np.asarray(var, np.float32)}


def rows(kind, source, seen):
    return profile(compare_with_source([f"stage{index}" for index in range(len(source))], SourceMoments(kind, source, seen, ())))


def test_what_is_known_is_compared_layer_by_layer():
    source = ({"norm": layer([0, 1], [1, 4])}, {})
    normed, plain = rows("batch_norm", source, ({"norm": layer([1, 3], [4, 1])}, {}))
    assert normed == {
        "stage": "stage0",
        "mean_shift": pytest.approx((1 / 1 + 2 / 2) / 2),
        "log_variance_ratio": pytest.approx(np.log(4)),
        "channels": 2,
        "source": "batch_norm",
        "reason": "",
    }
    assert (plain["mean_shift"], plain["log_variance_ratio"], plain["channels"]) == (None, None, 0)
    assert plain["reason"] == "this stage has no batch norm"


def test_a_stage_that_the_file_has_not_says_so():
    first, second = rows("file", (layer([0, 0], [4, 1]), ()), (layer([2, 0], [1, 1]), layer([5, 5, 5], [2, 2, 2])))
    assert first["mean_shift"] == pytest.approx(0.5)
    assert first["log_variance_ratio"] == pytest.approx(np.log(4) / 2)
    assert (first["source"], first["channels"]) == ("file", 2)
    assert (second["mean_shift"], second["reason"]) == (None, "the source profile has nothing of this stage")


def test_without_a_source_there_is_none_and_it_says_so():
    found = rows("none", ((), ()), (layer([2], [1]), layer([5], [2])))
    assert [(row["mean_shift"], row["source"], row["reason"]) for row in found] == [
        (None, "none", "there is no source profile")
    ] * 2


def test_dead_channels_are_left_out_and_never_make_a_number_that_is_none():
    source = (layer([0, 0], [4, 0]), layer([0, 0, 0], [0, 0, 0]))
    first, second = rows("file", source, (layer([2, 0], [1, 1]), layer([5, 5, 5], [2, 2, 2])))
    assert (first["channels"], first["mean_shift"]) == (1, 1.0)
    assert second == {
        "stage": "stage1",
        "mean_shift": None,
        "log_variance_ratio": None,
        "channels": 0,
        "source": "file",
        "reason": "no channel varies in both the source and the data",
    }
