"""A made-up study whose every name from outside tries to be markup, a script or a template, and to push the page aside."""

from typing import Any

from fteng.trials import Variant
from tests.report.report_fixture import JUDGED, explain, make_summary

# A name nobody can break, at the end: it must not push the page aside.
EVIL = "<script>alert('x')</script>\"&{{ 7*191 }}\u2028]]>" + "W" * 40


def make_hostile() -> dict[str, Any]:
    """A study in which every name from outside tries to be markup, a script or a template."""
    summary = explain(make_summary(depths=(0, 12, 18), seeds=(0,), metrics=JUDGED))
    dataset, pictures = summary["dataset"], summary["explained"]["saliency"]["mistakes"]
    for part in ("counts", "groups_of_class"):
        dataset[part] = {split: {name + EVIL: n for name, n in counts.items()} for split, counts in dataset[part].items()}
    summary["run"]["versions"] = {"jax" + EVIL: EVIL}
    summary["run"]["config"][EVIL] = {EVIL: [EVIL]}
    summary["run"]["seconds_by_phase"] = {EVIL: 1.0}
    summary["groups"] = {EVIL: [EVIL]}
    for part in (
        "backbone",
        "experiment",
        "weights",
        "stages",
        "profile",
        "probes",
        "trials",
        "depth_curve",
        "recommendation",
        "audit",
        "final",
        "subgroups",
        "curves",
        "mistakes",
        "explained",
    ):
        summary[part] = _spoil(summary[part])
    summary["explained"]["saliency"]["mistakes"] = pictures
    summary["source_profile"] = {"kind": "file", "name": EVIL, "about": EVIL, "images": 3, "image_size": 224}
    for part in ("name", "classes", "left_out", "notes", "digest"):
        dataset[part] = _spoil(dataset[part])
    for part in ("command", "device", "cpu", "git", "started"):
        summary["run"][part] += EVIL
    return summary


def _spoil(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _spoil(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_spoil(item, key) for item in value]
    # Of a way of training fteng itself has written every word.
    ours = ("metric", "status", "method", "keeps", *Variant._fields)
    return value + EVIL if isinstance(value, str) and key not in ours else value
