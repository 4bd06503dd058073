"""The section on similarity: what was said of the data before the sweep, and whether it held. From the summary alone."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import altair as alt
from altair.utils import schemapi
from markupsafe import Markup

from fteng.report import figures, words
from fteng.report.figures import Mark
from fteng.report.tables import Table

Summary = Mapping[str, Any]
CLASS_COLUMNS = (
    ("within_share", "Scatter within classes, of all"),
    ("nearest_mean", "Nearest class mean, balanced accuracy"),
    ("silhouette", "Silhouette"),
)


class Drawn(NamedTuple):
    """scores: empty where no score ranked anything."""

    scores: list[Markup]
    learning: Markup | None


def draw(summary: Summary) -> Drawn:
    """Every figure of the section."""
    said = summary["similarity"]
    with schemapi.debug_mode(False):
        return Drawn(_scores(said), _learning(said))


def sentences(summary: Summary) -> list[str]:
    """What a reader can act on, one thought a sentence."""
    said = summary["similarity"]
    advice, metric = said["advice"], words.metric_name(said["metric"])
    told = []
    plan, ours = advice["ours"]["plan"], advice["ours"]
    if plan is None:
        told.append(f"No prediction could be made: {ours['reason']}.")
    else:
        text = words.plan(plan["freeze_depth"], plan["tap"], summary["stages"], [])
        told.append(f"Advice before any tuning: {text[0].lower()}{text[1:]}; {ours['reason']}. {ours['evidence']}")
    if said["task"].get("declared"):
        useful = said["task"]["useful"]["value"]
        measured = (
            "nothing measures it" if useful is None else f"the source head's answer tells {useful:.2f} of what there is to tell"
        )
        told.append(f"Whoever ran the study declared the task {said['task']['declared']} to the source's; {measured}.")
    folk = advice["folklore"]
    text = words.plan(folk["freeze_depth"], folk["tap"], summary["stages"], [])
    told.append(f"The folklore would say “{folk['cell']}”, and so: {text[0].lower()}{text[1:]} ({folk['why']}).")
    grade = said["grade"]
    for name, label in (("ours", "our advice"), ("folklore", "the folklore")):
        row = next((row for row in grade["advice"] if row["name"] == name and row["regret"] is not None), None)
        if row is not None:
            exact = "" if row["exact"] else f" (measured: {row['measured']['label']}, the nearest)"
            told.append(
                f"Following {label}{exact} lost {_lost(row)} points of {metric} on test against the best plan that was measured,"
                f" and would have saved {words.duration(row['seconds_saved'])} of {words.duration(grade['sweep_seconds'])}."
            )
    return told


def prediction_rows(summary: Summary) -> list[dict[str, str]]:
    """Our prediction of every plan, the best first."""
    return [
        {
            "plan": _named(row),
            "predicted": words.interval({"value": row["predicted"], "low": row["low"], "high": row["high"]}),
            "equal": "yes" if row["equal"] else "no",
            "share": f"{100 * row['best_share']:.0f} %",
        }
        for row in summary["similarity"]["advice"]["ours"]["ranking"]
    ]


def tau_sentence(summary: Summary) -> str:
    """Whether any score is shown to rank the depths; empty where none could be asked."""
    known = [row for row in summary["similarity"]["grade"]["scores"] if row["p"] is not None and row["name"] != "depth"]
    if not known:
        return ""
    shown = [row["label"] for row in known if row["p"] < 0.05 and row["tau"] > 0]
    text = (
        f"Shown to rank these depths, each taken alone (p below 0.05): {', '.join(shown)}; of {len(known)} some may be so by luck."
        if shown
        else f"No score is shown to rank these depths: the smallest p is {words.p_value(min(row['p'] for row in known))}."
    )
    return f"{text} One that ranks them no better than “tuning more, whatever the data” has seen nothing in them."


def learning_sentence(summary: Summary) -> str:
    """What the last doubling of the images brought."""
    curves = summary["similarity"]["learning"]["curves"]
    gains = [curve for curve in curves if curve["last_doubling"] is not None]
    if not gains:
        reasons = dict.fromkeys(point["reason"] for curve in curves for point in curve["points"] if point["reason"])
        return f"That cannot be told: {'; '.join(reasons)}." if reasons else ""
    curve = gains[0]
    half, whole = (point["test"] for point in curve["points"][-2:])
    change = f"{100 * curve['last_doubling']:+.1f}".replace("-", "−")
    name = words.metric_name(summary["similarity"]["metric"])
    text = f"The second half of the training images changed the {name} of the classifier on {curve['tap']} by {change} points"
    text += " on validation"
    if half is not None and whole is not None:
        text += f", and by {100 * (whole - half):+.1f} on test".replace("-", "−")
    return f"{text}. One fit each: luck is in both."


def advice_rows(summary: Summary) -> list[dict[str, str]]:
    """The grading of each advice, the smallest regret first."""
    rows = summary["similarity"]["grade"]["advice"]
    order = sorted(rows, key=lambda row: (row["regret"] is None, row["regret"] or 0.0))
    return [
        {
            "name": row["label"],
            "plan": _plan(row),
            "regret": "–" if row["regret"] is None else _points(row),
            "swept": "–" if row["against_sweep"] is None else f"{row['against_sweep']:+.1f}".replace("-", "−"),
            "saved": "–" if row["seconds_saved"] is None else words.duration(max(row["seconds_saved"], 0.0)),
            "note": row["reason"],
        }
        for row in order
    ]


def tau_rows(summary: Summary) -> list[dict[str, Any]]:
    """How each score ranked the depths, the best first."""
    rows = summary["similarity"]["grade"]["scores"]
    order = sorted(rows, key=lambda row: -2.0 if row["tau"] is None else row["tau"], reverse=True)
    return [
        {
            "name": row["label"],
            "tau": words.interval({"value": row["tau"], "low": row["low"], "high": row["high"]}, 2).replace("-", "−"),
            "p": words.p_value(row["p"]) if row["p"] is not None else "–",
            "depths": row["depths"],
            "best": "–" if row["best_depth"] is None else row["best_depth"],
            "note": row["reason"],
        }
        for row in order
    ]


def stage_rows(summary: Summary) -> list[dict[str, Any]]:
    """One row a stage: each score, and how the classes lie, in words; `why` names what is undefined."""
    said = summary["similarity"]
    rows = []
    for index, stage in enumerate(said["stages"]):
        cells = [said["classes"]["rows"][index][name] for name, _ in CLASS_COLUMNS]
        cells += [said["alignment"][index]["labels_debiased"], said["alignment"][index]["next_debiased"]]
        cells += [score["rows"][index] for score in said["scores"]]
        rows.append({"stage": stage, "cells": [(words.figure(cell["value"]), cell["reason"]) for cell in cells]})
    return rows


def stage_columns(summary: Summary) -> list[str]:
    """The titles of `stage_rows`."""
    scores = [score["label"] for score in summary["similarity"]["scores"]]
    return [*(title for _, title in CLASS_COLUMNS), "CKA with the labels", "CKA with the next stage", *scores]


def score_table(summary: Summary) -> Table:
    """What each score predicted for each depth, and what was measured: the numbers behind the dots, of every score."""
    grade = summary["similarity"]["grade"]
    curve = {row["freeze_depth"]: row["value"] for row in grade.get("curve", [])}
    rows = [
        (score["label"], f"{row['freeze_depth']}", words.figure(row["value"]), words.score(curve[row["freeze_depth"]]))
        for score in grade["scores"]
        if score["tau"] is not None
        for row in score["by_depth"]
        if row["freeze_depth"] in curve
    ]
    return Table("Predictions", ("Score", "Freeze depth", "Predicted", "Measured"), rows)


def learning_table(summary: Summary) -> Table:
    """The classifier's score by training images."""
    curves = summary["similarity"]["learning"]["curves"]
    rows = [
        (curve["tap"], f"{point['images']:,}", words.score(point["val"]), words.score(point["test"]))
        for curve in curves
        for point in curve["points"]
    ]
    return Table("Learning curves", ("Tap", "Training images", "Validation", "Test"), rows)


def _scores(said: Summary) -> list[Markup]:
    """The measured curve against our prediction and the three scores that ranked it best, a dot a depth."""
    curve = {row["freeze_depth"]: row["value"] for row in said["grade"].get("curve", [])}
    known = [score for score in said["grade"]["scores"] if score["tau"] is not None]
    others = sorted(
        (score for score in known if score["name"] not in ("ours", "depth")), key=lambda score: score["tau"], reverse=True
    )
    drawn = []
    for score in [*(score for score in known if score["name"] == "ours"), *others[:3]]:
        at = {row["freeze_depth"]: row["value"] for row in score["by_depth"] if row["freeze_depth"] in curve}
        marks = [
            Mark(value, curve[depth], None, None, f"depth {depth}: {score['label']} {words.figure(value)}", name=str(depth))
            for depth, value in at.items()
        ]
        title = f"{score['label']}, τ {score['tau']:.2f}".replace("-", "−")
        drawn.append(figures.quality_against_cost(marks, metric=said["metric"], cost=title, numbers="~g"))
    return drawn


def _learning(said: Summary) -> Markup | None:
    rows = [
        {"images": point["images"], "value": point["val"], "tap": curve["tap"]}
        | {"title": f"{curve['tap']}, {words.number(point['images'], 'image')}: {words.score(point['val'])}"}
        for curve in said["learning"]["curves"]
        for point in curve["points"]
        if point["val"] is not None
    ]
    if not rows:
        return None
    names = list(dict.fromkeys(row["tap"] for row in rows))
    color = alt.Color("tap:N").scale(domain=names, range=list(figures.SERIES[: len(names)]))
    color = color.legend(alt.Legend(title=None, orient="bottom"))
    x = alt.X("images:Q").axis(alt.Axis(title="training images", tickCount=5, grid=False)).scale(type="log", nice=False)
    y = alt.Y("value:Q").axis(alt.Axis(title=None, tickCount=5, format=".2f", domain=False, ticks=False)).scale(zero=False)
    chart = figures._chart(rows)
    dots = chart.mark_point(size=60, filled=True, opacity=1, aria=True)
    layers = [
        chart.mark_line(opacity=0.5).encode(x=x, y=y, color=color),
        dots.encode(x=x, y=y, color=color, description=figures.TITLE),
    ]
    title = f"{words.capital(words.metric_name(said['metric']))} of the classifier, validation"
    return figures._draw(alt.layer(*layers), title, width=330, height=220)


def _plan(row: Mapping[str, Any]) -> str:
    if row["plan"] is None:
        return "–"
    text = _named(row["plan"])
    return text if row["exact"] or row["measured"] is None else f"{text}; measured: {row['measured']['label']}"


def _named(plan: Mapping[str, Any]) -> str:
    return f"tune from depth {plan['freeze_depth']}" if plan["tuned"] else f"classifier on {plan['tap']}"


def _lost(row: Mapping[str, Any]) -> str:
    bounds = "" if row["low"] is None else f" [{row['low']:.1f}, {row['high']:.1f}]"
    return f"{row['regret']:.1f}{bounds}".replace("-", "−")


def _points(row: Mapping[str, Any]) -> str:
    if row["regret"] == row["low"] == row["high"] == 0:
        # Against itself nothing scatters.
        return "0.0 (the best here)"
    return _lost(row)
