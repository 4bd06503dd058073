"""Rows of the profile: the measures, what they are of, and why a stage has none."""

import numpy as np
import pytest

from fteng.probe.features import Moments
from fteng.probe.profile import profile
from fteng.probe.source_profile import Source


def layer(mean, var):
    return {"mean": np.asarray(mean, np.float32), "var": np.asarray(var, np.float32)}


SEEN = Moments(
    inputs=({"norm": layer([1, 3], [4, 1])}, {}),
    outputs=(layer([2, 0], [1, 1]), layer([5, 5, 5], [2, 2, 2])),
)


def test_batch_norm_is_compared_at_its_inputs():
    source = Source("batch_norm", ({"norm": layer([0, 1], [1, 4])}, {}), {})
    normed, plain = profile(("normed", "plain"), source, SEEN)
    assert normed == {
        "stage": "normed",
        "mean_shift": pytest.approx((1 / 1 + 2 / 2) / 2),
        "log_variance_ratio": pytest.approx(np.log(4)),
        "channels": 2,
        "source": "batch_norm",
        "reason": "",
    }
    assert (plain["mean_shift"], plain["log_variance_ratio"], plain["channels"]) == (None, None, 0)
    assert plain["reason"] == "this stage has no batch norm"


def test_a_file_is_compared_at_the_outputs():
    source = Source("file", (layer([0, 0], [4, 1]), ()), {})
    first, second = profile(("a", "b"), source, SEEN)
    assert first["mean_shift"] == pytest.approx(0.5)
    assert first["log_variance_ratio"] == pytest.approx(np.log(4) / 2)
    assert (first["source"], first["channels"]) == ("file", 2)
    assert (second["mean_shift"], second["reason"]) == (None, "the source profile has nothing of this stage")


def test_without_a_source_there_is_none_and_it_says_so():
    rows = profile(("a", "b"), Source("none", ((), ()), {}), SEEN)
    assert [(row["mean_shift"], row["source"], row["reason"]) for row in rows] == [(None, "none", "there is no source profile")] * 2


def test_dead_channels_are_left_out_and_never_make_a_number_that_is_none():
    source = Source("file", (layer([0, 0], [4, 0]), layer([0, 0, 0], [0, 0, 0])), {})
    first, second = profile(("a", "b"), source, SEEN)
    assert (first["channels"], first["mean_shift"]) == (1, 1.0)
    assert second == {
        "stage": "b",
        "mean_shift": None,
        "log_variance_ratio": None,
        "channels": 0,
        "source": "file",
        "reason": "no channel varies in both the source and the data",
    }
