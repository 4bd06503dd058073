"""Sentences and table rows of the page of several studies, as plain text: the template escapes them."""

from collections.abc import Mapping
from typing import Any

from fteng.report import words

Comparison = Mapping[str, Any]
_HOW = {
    "paired": "the same, paired",
    "unpaired": "others, unpaired",
    "other classes": "not compared: other classes",
    "no score": "not compared: no score",
}


def headline(comparison: Comparison) -> str:
    """What the page shows, in one line."""
    studies, tested = comparison["studies"], [row for row in comparison["pairs"] if row["p_holm"] is not None]
    told = sum(row["p_holm"] < 1 - comparison["confidence"] for row in tested)
    many = words.number(len(studies), "study", "studies")
    if not tested:
        return f"{many} side by side; no two of them can be tested against each other"
    return f"{many} side by side: {told} of {words.number(len(tested), 'pair')} told apart"


def lead(comparison: Comparison) -> str:
    """Whether the studies agree on the depth."""
    found = [study["recommendation"] for study in comparison["studies"] if study["recommendation"] is not None]
    shares = [row["frozen_share"] for row in found if row["tuned"] and row["frozen_share"] is not None]
    told = []
    untuned = sum(not row["tuned"] for row in found)
    if untuned:
        told.append(f"{untuned} of {len(found)} recommend a linear classifier and no tuning")
    if shares:
        low, high = min(shares), max(shares)
        span = f"{low:.0%}" if low == high else f"between {low:.0%} and {high:.0%}"
        told.append(f"{len(shares)} of {len(found)} tune, with {span} of the stages frozen")
    return words.capital("; ".join(told)) + "." if told else "No study recommends anything yet."


def levels(comparison: Comparison) -> str:
    """`95 % intervals`; where the studies differ, where each says its own."""
    found = sorted({study["confidence"] for study in comparison["studies"]})
    if len(found) == 1:
        return f"{100 * found[0]:g} % intervals"
    return f"intervals at the level of each study ({', '.join(f'{100 * level:g}' for level in found)} %), which stands beside them"


def _scored(study: Mapping[str, Any], estimate: Mapping[str, Any] | None, comparison: Comparison) -> str:
    """The score with its interval, and the interval's level where another study has another."""
    text = words.interval(estimate)
    several = len({other["confidence"] for other in comparison["studies"]}) > 1
    return f"{text} ({100 * study['confidence']:g} %)" if several and "[" in text else text


def pairs_about(comparison: Comparison) -> str:
    """What the table of pairs rests on."""
    counts = {how: sum(row["how"] == how for row in comparison["pairs"]) for how in _HOW}
    listed = ", ".join(f"{count} {how}" for how, count in counts.items() if count)
    text = (
        f"What each study recommends, the first less the second, in {words.metric_name(comparison['metric'])} on test. Of"
        f" {words.number(len(comparison['pairs']), 'pair')}: {listed}. Paired: both answered the same images, which are resampled"
        " together by group. Unpaired: other images, so the two samples are taken for independent. p is corrected for all pairs"
        " that were tested (Holm); the intervals are not."
    )
    if any(study["recommendation"] and study["recommendation"]["seeds"] < 2 for study in comparison["studies"]):
        text += " Where a plan has one seed, luck in training is not in its numbers."
    return text


def pair_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The smallest corrected p first; what was not compared last."""
    names = [study["name"] for study in comparison["studies"]]
    order = sorted(comparison["pairs"], key=lambda row: (row["p_holm"] is None, row["p_holm"] or 0.0, row["p"] or 0.0))
    level = 1 - comparison["confidence"]
    rows = []
    for row in order:
        shared = row["shared_images"] if row["how"] == "unpaired" else None
        verdict = "–" if row["how"] not in ("paired", "unpaired") else "undefined: too few groups, or no spread"
        if row["p_holm"] is not None:
            verdict = "told apart" if row["p_holm"] < level else "not told apart"
        rows.append(
            {
                "first": names[row["first"]],
                "second": names[row["second"]],
                "how": _HOW[row["how"]] + (f" ({shared:,} shared)" if shared else ""),
                "difference": "–" if row["difference"] is None else words.difference(row),
                "p": "–" if row["p"] is None else words.p_value(row["p"]),
                "p_holm": "–" if row["p_holm"] is None else words.p_value(row["p_holm"]),
                "verdict": verdict,
            }
        )
    return rows


def study_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """What each study is, what it recommends, how good that is and what it costs."""
    rows = []
    for number, study in enumerate(comparison["studies"], start=1):
        row = study["recommendation"]
        cost = {} if row is None else row["cost"]
        dataset = study["dataset"]
        images, groups = dataset["images"], dataset["groups"]
        rows.append(
            {
                "number": number,
                "name": study["name"],
                "link": study["link"],
                "backbone": study["backbone"],
                "data": f"{dataset['name']}, {dataset['image_size']} px, {len(dataset['classes'])} classes",
                "images": " / ".join(f"{images.get(split, 0):,}" for split in ("train", "val", "test")),
                "test_groups": groups.get("test") if groups.get("test") != images.get("test") else None,
                "plan": "nothing yet" if row is None else row["plan"],
                "test": "–" if row is None else _scored(study, row["test"], comparison),
                "chance": words.score(study["chance"]),
                "seconds": words.duration(cost.get("seconds")) if cost else "–",
                "flops": words.quantity(cost.get("flops_per_example")) if cost else "–",
                "parameters": words.quantity(cost.get("trainable_parameters", 0)) if cost else "–",
                "took": words.duration(study["run"]["seconds"]),
            }
        )
    return rows


def curve_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Every dot of the depth curves."""
    return [
        {
            "name": study["name"],
            "plan": row["label"],
            "share": f"{row['frozen_share']:.0%}",
            "depth": row["freeze_depth"],
            "test": _scored(study, row["test"], comparison),
        }
        for study in comparison["studies"]
        for row in study["curve"]
    ]


def similarity_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """How far each study's data lie from the source, in a line."""
    rows = []
    for study in comparison["studies"]:
        shifts = [(row["mean_shift"], row["stage"]) for row in study["profile"] if row["mean_shift"] is not None]
        spreads = [(row["log_variance_ratio"], row["stage"]) for row in study["profile"] if row["log_variance_ratio"] is not None]
        rows.append(
            {
                "name": study["name"],
                "source": (study["source"] or "none").replace("_", " "),
                "first": study["first_noticeable"] or "–",
                "shift": _mean_and_largest(shifts),
                "spread": _mean_and_largest(spreads),
            }
        )
    return rows


def profile_rows(comparison: Comparison) -> list[dict[str, str]]:
    """Every dot of the figures of similarity."""
    return [
        {"name": study["name"], "stage": row["stage"]}
        | {key: words.score(row[key]) for key in ("mean_shift", "log_variance_ratio")}
        for study in comparison["studies"]
        for row in study["profile"]
    ]


def regret_about(comparison: Comparison) -> str:
    """What the folklore cost over all studies."""
    found = [row["regret"] for study in comparison["studies"] for row in study["advice"] if row["name"] == "folklore"]
    known = sorted(regret for regret in found if regret is not None)
    if not known:
        return "No study has graded the folklore yet."
    worst = f"between {known[0]:.1f} and {known[-1]:.1f} points" if len(known) > 1 else f"{known[0]:.1f} points"
    studies = words.number(len(known), "study", "studies")
    return (
        "Regret is how many points of its own metric an advice lost on test against the best plan that the study measured."
        f" Following the folklore lost {worst} in {studies}. Brackets: {_advice_levels(comparison)} from resampled test images; the"
        " best plan was picked on the same images, which makes every regret a little too large."
    )


def _advice_levels(comparison: Comparison) -> str:
    found = sorted({study["advice_confidence"] for study in comparison["studies"] if study["advice_confidence"] is not None})
    if len(found) == 1:
        return f"{100 * found[0]:g} % intervals"
    return f"intervals at the level of each study ({', '.join(f'{100 * level:g}' for level in found)} %)"


def regret_columns(comparison: Comparison) -> list[tuple[str, str]]:
    """(name, label) of every advice, the folklore first."""
    found = {row["name"]: row["label"] for study in comparison["studies"] for row in study["advice"]}
    return sorted(found.items(), key=lambda item: item[0] != "folklore")


def regret_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row a study, one cell an advice."""
    columns = [name for name, _ in regret_columns(comparison)]
    rows = []
    for study in comparison["studies"]:
        of = {row["name"]: row for row in study["advice"]}
        cells = [_regret(of[name]) if name in of else ("–", "") for name in columns]
        metric = words.metric_name(study["advice_metric"]) if study["advice_metric"] else "–"
        rows.append({"name": study["name"], "metric": metric, "cells": cells})
    return rows


def _regret(row: Mapping[str, Any]) -> tuple[str, str]:
    if row["regret"] is None:
        return "–", row["reason"]
    bounds = "" if row["low"] is None else f" [{row['low']:.1f}, {row['high']:.1f}]"
    return f"{row['regret']:.1f}{bounds}".replace("-", "−"), row["measured"] or row["reason"]


def _mean_and_largest(values: list[tuple[float, str]]) -> str:
    if not values:
        return "–"
    largest, stage = max(values)
    return f"{sum(value for value, _ in values) / len(values):.2f}; largest {largest:.2f} at {stage}"
