"""What tuning changed in each stage, plan by plan: weights, and what a stage says of the same images."""

from collections.abc import Mapping
from typing import Any

import altair as alt
from altair.utils import schemapi
from markupsafe import Markup

from fteng.report import figures, view, words
from fteng.trials import Variant

Summary = Mapping[str, Any]
_MEASURES = (
    ("relative", "Change of weights, |W − W₀| / |W₀|"),
    ("cka", "Likeness of outputs before and after, CKA"),
)


def plans(summary: Summary) -> list[dict[str, Any]]:
    """The plans whose networks were compared: name, whether recommended, and their stages."""
    changes, row_of = summary["explained"]["changes"], {}
    for row in summary["depth_curve"]:
        row_of |= dict.fromkeys(row.get("trials", []), row)
    best = view.recommended(summary)
    found = []
    for one in changes["trials"] if changes else []:
        row = row_of.get(one["trial"])
        if row is not None:
            found.append({"name": view.name(row, summary), "chosen": row is best, "stages": one["stages"], "trial": one["trial"]})
    return found


def finding(summary: Summary) -> str:
    """Where tuning changed most, and whether what was frozen is exactly as it was."""
    changes, found = summary["explained"]["changes"], plans(summary)
    if not found:
        return f"Not known: {summary['explained']['reason'] or 'no trial that starts from the pretrained network has ended'}."
    leading = []
    for plan in found:
        first = next((index for index, stage in enumerate(plan["stages"]) if stage["trained"]), len(plan["stages"]))
        leading += plan["stages"][:first]
    still = sum(stage["relative"] in (0, None) and stage["cka"] in (1, None) for stage in leading)
    text = f"Before and after tuning, on {words.number(changes['images'], 'validation image')}."
    every = sum(bool(row.get("trials")) and _from_pretrained(row) for row in summary["depth_curve"])
    if len(found) < every:
        text += f" Compared are {len(found)} of {every} plans, spread over the depths; the one that trains most is among them."
    if leading:
        text += (
            f" Of the leading stages that were frozen, {still} of {len(leading)} are exactly as they were (change 0, likeness 1)"
        )
        text += (
            "." if still == len(leading) else "; the others had batch norm that followed the batch, or are broken: see the audit."
        )
    plan = next((plan for plan in found if plan["chosen"] and any(stage["trained"] for stage in plan["stages"])), None)
    if plan is None:
        return text
    known = [stage for stage in plan["stages"] if stage["cka"] is not None]
    if known:
        least = min(known, key=lambda stage: stage["cka"])
        text += f" In the recommended plan {least['stage']} says the most that is new (likeness {least['cka']:.3f})."
    return text


def draw(summary: Summary) -> list[Markup]:
    """One figure a measure; a line a plan that tuned a stage."""
    tuned = [plan for plan in plans(summary) if any(stage["trained"] for stage in plan["stages"])][: len(figures.SERIES)]
    with schemapi.debug_mode(False):
        return [figure for key, title in _MEASURES if (figure := _figure(summary, tuned, key, title)) is not None]


def table(summary: Summary, key: str) -> list[tuple[str, list[str]]]:
    """A row a stage, a cell a plan; a dash behind the tap of a plan, brackets around what was frozen."""
    found = plans(summary)
    cells = {plan["trial"]: {stage["stage"]: stage for stage in plan["stages"]} for plan in found}
    return [(stage, [_cell(cells[plan["trial"]].get(stage), key) for plan in found]) for stage in summary["stages"]]


def _from_pretrained(row: Mapping[str, Any]) -> bool:
    return Variant(**row.get("variant", {})).start == "pretrained"


def undrawn(summary: Summary) -> int:
    """How many plans that tuned a stage stand in the tables alone."""
    return max(0, sum(any(stage["trained"] for stage in plan["stages"]) for plan in plans(summary)) - len(figures.SERIES))


def legend(summary: Summary) -> list[tuple[str, str]]:
    """(plan, colour) of each line."""
    tuned = [plan for plan in plans(summary) if any(stage["trained"] for stage in plan["stages"])]
    return [(plan["name"] + ", recommended" * plan["chosen"], colour) for plan, colour in zip(tuned, figures.SERIES, strict=False)]


def _cell(stage: Mapping[str, Any] | None, key: str) -> str:
    if stage is None:
        return "–"
    value = stage[key]
    exact = value in (0, 1)
    text = words.UNDEFINED if value is None else f"{value:.0f}" if exact else f"{value:.4f}" if key == "cka" else f"{value:.3g}"
    return text if stage["trained"] else f"({text})"


def _figure(summary: Summary, tuned: list[dict[str, Any]], key: str, title: str) -> Markup | None:
    rows = [
        {"name": stage["stage"], "at": index, "value": stage[key], "series": str(number)}
        | {"title": f"{plan['name']}, {stage['stage']}: {_cell(stage, key).strip('()')}" + ", frozen" * (not stage["trained"])}
        for number, plan in enumerate(tuned)
        for index, stage in enumerate(plan["stages"])
        if stage[key] is not None
    ]
    if not rows:
        return None
    series = [str(number) for number in range(len(tuned))]
    color = alt.Color("series:N").scale(domain=series, range=list(figures.SERIES[: len(series)])).legend(None)
    x = alt.X("value:Q").axis(alt.Axis(tickCount=4, title=None, format="~g")).scale(zero=key == "relative")
    y = figures._rows(summary["stages"])
    chart = figures._chart(rows)
    layers = [
        chart.mark_line(strokeWidth=1.6, opacity=0.5).encode(x=x, y=y, color=color, order=alt.Order("at:Q")),
        chart.mark_point(size=40, filled=True, opacity=0.9, aria=True).encode(x=x, y=y, color=color, description=figures.TITLE),
    ]
    return figures._draw(alt.layer(*layers), title, width=290, height=figures._step(summary["stages"]))
