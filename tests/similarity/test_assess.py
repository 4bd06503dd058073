"""The whole record, on data that are as they should be and on data that are not."""

import json

import numpy as np
import pytest

from fteng.results import Predictions
from fteng.similarity.against_source import SourceMoments
from fteng.similarity.assess import Surveyed, assess
from fteng.similarity.learning import Rows

STAGES = ("a", "b", "c")


def fit_to(rows):
    """Nearest mean as a linear classifier: enough to see that a curve is drawn."""

    def fit(features, train):
        means = np.stack([features[train[rows.labels[train] == label]].mean(axis=0) for label in range(rows.labels.max() + 1)])
        logits = features @ means.T - (means**2).sum(axis=1) / 2
        columns = (rows.ids, rows.groups, rows.labels, logits)
        return {split: Predictions(*(column[rows.splits[split]] for column in columns)) for split in ("val", "test")}

    return fit


def study(n=240, classes=3, channels=(4, 6, 300), metric="balanced_accuracy", break_it=lambda taps: taps):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    taps = [
        rng.standard_normal((n, c)).astype(np.float32) + rng.standard_normal((classes, c))[labels].astype(np.float32)
        for c in channels
    ]
    order = rng.permutation(n)
    splits = {"train": order[: n // 2], "val": order[n // 2 : 3 * n // 4], "test": order[3 * n // 4 :]}
    ids = np.array([f"image{row}" for row in range(n)])
    images = rng.integers(0, 255, (n, 16, 16, 3), np.uint8)
    probes = [
        {"tap": stage, "val": {metric: 0.5 + 0.1 * k, "accuracy": 0.5}, "test": {metric: 0.5}} for k, stage in enumerate(STAGES)
    ]
    rows = Rows(labels, ids, ids, splits)
    return Surveyed(STAGES, break_it(taps), rows, tuple("abcdefghij"[:classes]), images, metric, probes, "b", steps=1000)


def moments(taps, parts=8, shift=0.0):
    layers = [({"bn": {"mean": tap.mean(axis=0) + shift, "var": tap.var(axis=0)}}) for tap in taps]
    seen = [({"bn": {"mean": tap.mean(axis=0), "var": tap.var(axis=0)}}) for tap in taps]
    split = [[{"bn": {"mean": tap[k::parts].mean(axis=0), "var": tap[k::parts].var(axis=0)}} for tap in taps] for k in range(parts)]
    return SourceMoments("batch_norm", layers, seen, split)


NOTHING = SourceMoments("none", ((), (), ()), ((), (), ()), ())


def every_number(value, path=""):
    if isinstance(value, dict):
        if "value" in value and "reason" in value:
            assert (value["value"] is None) == bool(value["reason"]), path
        for name, item in value.items():
            every_number(item, f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            every_number(item, path)


def test_a_whole_record_is_json_without_nan():
    one = study()
    found = assess(one, moments(one.taps, shift=2.0), 5 * np.eye(7)[one.rows.labels], [3.0, 2.0, np.nan], fit_to(one.rows))
    json.dumps(found, allow_nan=False)
    every_number(found)
    assert found["profile"]["first_noticeable"] == "a"
    assert found["profile"]["rows"][0]["mean_shift"]["zero"]["high"] < found["profile"]["rows"][0]["mean_shift"]["value"]
    assert found["splits"]["first_noticeable"] is None
    assert found["splits"]["rows"][2]["frechet"]["zero"]["mean"] > 0
    assert {score["name"] for score in found["scores"]} == {
        *("logme", "h_score", "gbc", "transrate", "nleep", "parc", "cross_validated", "rgn"),
    }
    assert all(row["value"] is not None for score in found["scores"][:-1] for row in score["rows"])
    assert "no weights" in found["scores"][-1]["rows"][2]["reason"]
    assert [point["images"] for point in found["learning"]["curves"][0]["points"]] == [15, 30, 60, 120]
    assert found["advice"]["ours"]["plan"]["freeze_depth"] in range(4)
    assert found["task"]["useful"]["value"] > 0.9


def test_no_shift_is_not_noticed():
    one = study()
    found = assess(one, moments(one.taps), None, None, fit_to(one.rows))
    assert found["profile"]["first_noticeable"] is None
    assert found["profile"]["reason"] == ""


def _constant(taps):
    taps[1] = np.full_like(taps[1], 3.0)
    return taps


def _infinite(taps):
    taps[2] = taps[2].copy()
    taps[2][5] = np.nan
    return taps


def _dead_channels(taps):
    taps[2][:, ::2] = 0
    return taps


def _identical(taps):
    taps[1] = taps[0]
    return taps


@pytest.mark.parametrize("break_it", [_constant, _infinite, _dead_channels, _identical])
@pytest.mark.parametrize("metric", ["balanced_accuracy", "auc", "log_loss"])
def test_hostile_stages_give_numbers_or_reasons(break_it, metric):
    one = study(metric=metric, classes=2 if metric == "auc" else 3, break_it=break_it)
    found = assess(one, NOTHING, None, None, fit_to(one.rows))
    json.dumps(found, allow_nan=False)
    every_number(found)
    assert found["profile"]["reason"]


@pytest.mark.parametrize(("n", "classes"), [(24, 3), (20, 10), (12, 6)])
def test_few_images_and_about_one_a_class_give_numbers_or_reasons(n, classes):
    one = study(n=n, classes=classes)
    found = assess(one, moments(one.taps, parts=2), None, None, fit_to(one.rows))
    json.dumps(found, allow_nan=False)
    every_number(found)
    assert "6 parts" in found["profile"]["reason"]
