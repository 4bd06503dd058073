"""The figures of the page of several studies. Up to six share one chart; more stand side by side in one of their own on the
same axes, the others grey behind it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import altair as alt
from altair.utils import schemapi
from markupsafe import Markup

from fteng.report import figures, words
from fteng.report.figures import Mark

Comparison = Mapping[str, Any]
# As many as there are colours, each with a shape of its own for those who do not see them.
_PAPER = "var(--paper)"
TOGETHER = len(figures.SERIES)
SHAPES = {
    "circle": "M8 4a4 4 0 1 0 .01 0Z",
    "square": "M4.5 4.5h7v7h-7Z",
    "triangle-up": "M8 3.5l4.6 8h-9.2Z",
    "diamond": "M8 2.8l4.6 5.2-4.6 5.2-4.6-5.2Z",
    "cross": "M6.3 3.5h3.4v2.8h2.8v3.4h-2.8v2.8h-3.4v-2.8h-2.8v-3.4h2.8Z",
    "triangle-down": "M8 12.5l4.6-8h-9.2Z",
}


class Drawn(NamedTuple):
    """Figures; a list is empty and a figure None where there is nothing to draw. legend: (name, colour, path of its shape)."""

    legend: list[tuple[str, str, str]]
    depth: list[Markup]
    recommended: Markup | None
    spent: list[Markup]
    mean_shift: list[Markup]
    spread: list[Markup]
    folklore: Markup | None


class _Line(NamedTuple):
    name: str
    marks: list[Mark]
    alone: list[Mark]


class _Axes(NamedTuple):
    """What the lines of one figure share. numbers: the d3 format of the upright axis."""

    title: str
    below: str
    range: tuple[float, float]
    across: tuple[float, float]
    percent: bool


def draw(comparison: Comparison) -> Drawn:
    """Every figure of the page."""
    with schemapi.debug_mode(False):
        names = [study["name"] for study in comparison["studies"]]
        legend = list(zip(names, figures.SERIES, SHAPES.values(), strict=False)) if len(names) <= TOGETHER else []
        return Drawn(
            legend=legend,
            depth=_depth(comparison),
            recommended=_recommended(comparison),
            spent=_spent(comparison),
            mean_shift=_distance(comparison, "mean_shift", "Mean shift, source standard deviations"),
            spread=_distance(comparison, "log_variance_ratio", "Change of spread, |ln variance ratio|"),
            folklore=_folklore(comparison),
        )


def _mark(at: float, estimate: Mapping[str, Any] | None, title: str, **more: Any) -> list[Mark]:
    if estimate is None or estimate["value"] is None:
        return []
    return [Mark(at, estimate["value"], estimate["low"], estimate["high"], f"{title}: {words.interval(estimate)}", **more)]


def _depth(comparison: Comparison) -> list[Markup]:
    lines = []
    count = len(comparison["studies"])
    for index, study in enumerate(comparison["studies"]):
        # Side by side in one chart, intervals of the same depth would lie on each other.
        aside = 0.008 * (index - (count - 1) / 2) if count <= TOGETHER else 0.0
        found: dict[bool, list[Mark]] = {False: [], True: []}
        for row in study["curve"]:
            title = f"{study['name']}, {row['label']}, {row['frozen_share']:.0%} of the stages frozen"
            found[row["probe"]] += _mark(row["frozen_share"] + aside, row["test"], title, series=study["name"])
        lines.append(_Line(study["name"], found[False], found[True]))
    every = [mark for line in lines for mark in [*line.marks, *line.alone]]
    if not every:
        return []
    metric = comparison["metric"]
    title = f"{words.capital(words.metric_name(metric))} on test images" + " (lower is better)" * words.lower_is_better(metric)
    below = "← everything tuned · share of the leading stages frozen · nothing tuned →"
    return _lines(lines, _Axes(title, below, figures._domain(every, None), (-0.05, 1.05), True))


def _distance(comparison: Comparison, key: str, title: str) -> list[Markup]:
    lines = [
        _Line(
            study["name"],
            [
                Mark(row["at"], row[key], None, None, f"{study['name']}, {row['stage']}: {row[key]:.3f}", series=study["name"])
                for row in study["profile"]
                if row[key] is not None
            ],
            [],
        )
        for study in comparison["studies"]
    ]
    values = [mark.value for line in lines for mark in line.marks]
    if not values:
        return []
    axes = _Axes(title, "first stage → last stage", (0.0, 1.05 * max([*values, 1e-6])), (-0.03, 1.03), False)
    return _lines(lines, axes)


def _lines(lines: Sequence[_Line], axes: _Axes) -> list[Markup]:
    if len(lines) > TOGETHER:
        return [_panel(lines, index, axes) for index, line in enumerate(lines) if line.marks or line.alone]
    return [_together(lines, axes, wide) for wide in (True, False)]


def _xy(axes: _Axes, *, named: bool, ticks: int) -> tuple[Any, Any]:
    below = alt.Axis(title=axes.below if named else None, tickCount=ticks, grid=False, format="%" if axes.percent else "~g")
    if not axes.percent:
        below = alt.Axis(title=axes.below if named else None, labels=False, ticks=False, grid=False)
    x = alt.X("at:Q").axis(below).scale(domain=list(axes.across), nice=False, zero=False)
    return x, figures._score(alt.Y("value:Q"), axes.range)


def _together(lines: Sequence[_Line], axes: _Axes, wide: bool) -> Markup:
    """All studies in one chart, told apart by colour and shape."""
    x, y = _xy(axes, named=wide, ticks=10 if wide else 5)
    names = [line.name for line in lines]
    color = alt.Color("series:N").scale(domain=names, range=list(figures.SERIES[: len(names)])).legend(None)
    shape = alt.Shape("series:N").scale(domain=names, range=list(SHAPES)[: len(names)]).legend(None)
    marks = [mark for line in lines for mark in line.marks]
    alone = [mark for line in lines for mark in line.alone]
    rows = figures._chart([mark._asdict() for mark in marks])
    rings = figures._chart([mark._asdict() for mark in alone])
    layers = [
        rows.mark_line(strokeWidth=1.8, opacity=0.5).encode(x=x, y=y, color=color),
        *figures._intervals([*marks, *alone], x, color, horizontal=False),
        rows.mark_point(size=80, filled=True, opacity=1, aria=True).encode(
            x=x, y=y, color=color, shape=shape, description=figures.TITLE
        ),
        rings.mark_point(size=80, strokeWidth=1.6, fill=_PAPER, opacity=1, aria=True).encode(
            x=x, y=y, stroke=color, shape=shape, description=figures.TITLE
        ),
    ]
    size: dict[str, Any] = {"width": 850, "height": 340} if wide else {"width": 305, "height": 260}
    label = f"{axes.title}, one line a study; the tables have the values"
    return figures._draw(alt.layer(*layers), axes.title, label=label, css_class="wide" if wide else "narrow", **size)


def _panel(lines: Sequence[_Line], index: int, axes: _Axes) -> Markup:
    """One study in front, all others grey behind it."""
    x, y = _xy(axes, named=False, ticks=4)
    line = lines[index]
    rest = [mark._asdict() for other in lines if other is not line for mark in other.marks]
    rows = figures._chart([mark._asdict() for mark in line.marks])
    rings = figures._chart([mark._asdict() for mark in line.alone])
    color = alt.value(figures.ACCENT)
    layers = [
        figures._chart(rest).mark_line(strokeWidth=1, color=figures.LINE).encode(x=x, y=y, detail=alt.Detail("series:N")),
        *figures._intervals([*line.marks, *line.alone], x, color, horizontal=False),
        rows.mark_line(strokeWidth=1.8, color=figures.ACCENT).encode(x=x, y=y),
        rows.mark_point(size=40, filled=True, opacity=1, color=figures.ACCENT, aria=True).encode(
            x=x, y=y, description=figures.TITLE
        ),
        rings.mark_point(size=40, strokeWidth=1.6, fill=_PAPER, stroke=figures.ACCENT, opacity=1, aria=True).encode(
            x=x, y=y, description=figures.TITLE
        ),
    ]
    return figures._draw(alt.layer(*layers), line.name, label=f"{axes.title}: {line.name}", width=210, height=130)


def _recommended(comparison: Comparison) -> Markup | None:
    marks = [
        mark
        for study in comparison["studies"]
        if study["recommendation"] is not None
        for mark in _mark(
            0, study["recommendation"]["test"], f"{study['name']}, {study['recommendation']['plan']}", name=study["name"]
        )
    ]
    if not marks:
        return None
    metric = comparison["metric"]
    title = f"{words.capital(words.metric_name(metric))} of what each recommends" + " (lower is better)" * words.lower_is_better(
        metric
    )
    return _rows(marks, title, figures._domain(marks, None))


def _folklore(comparison: Comparison) -> Markup | None:
    rows = [
        (study["name"], row)
        for study in comparison["studies"]
        for row in study["advice"]
        if row["name"] == "folklore" and row["regret"] is not None
    ]
    if not rows:
        return None
    marks = [
        Mark(0, row["regret"], row["low"], row["high"], f"{name}: {row['regret']:.1f} points lost", name=name) for name, row in rows
    ]
    bounds = [bound for mark in marks for bound in (mark.value, mark.low, mark.high) if bound is not None]
    return _rows(marks, "Points lost by the folklore’s advice", (min([*bounds, 0.0]) - 0.5, max(bounds) + 0.5), zero=True)


def _rows(marks: Sequence[Mark], title: str, domain: tuple[float, float], *, zero: bool = False) -> Markup:
    """A dot with its interval a study."""
    axis = alt.Axis(title=None, tickCount=5, format="~g", domain=False, ticks=False)
    x = alt.X("value:Q").axis(axis).scale(domain=list(domain), nice=False, zero=False)
    y = figures._rows([mark.name for mark in marks])
    dots = figures._chart([mark._asdict() for mark in marks]).mark_point(
        size=60, filled=True, opacity=1, color=figures.ACCENT, aria=True
    )
    layers = [
        *([figures._chart([{"value": 0}]).mark_rule(color=figures.MUTED).encode(x=x)] if zero else []),
        *figures._intervals(marks, y, alt.value(figures.ACCENT), horizontal=True),
        dots.encode(x=x, y=y, description=figures.TITLE),
    ]
    return figures._draw(alt.layer(*layers), title, width=330, height=alt.Step(24))


def _spent(comparison: Comparison) -> list[Markup]:
    """Score of what is recommended against what it costs, and against the images it was trained on."""
    drawn = []
    asked = (
        ("Time of a trial, seconds", "~g", lambda study: study["recommendation"]["cost"].get("seconds")),
        ("Training images", "~s", lambda study: study["dataset"]["images"].get("train")),
    )
    for title, numbers, cost in asked:
        marks = [
            mark
            for number, study in enumerate(comparison["studies"], start=1)
            if study["recommendation"] is not None and (at := cost(study)) is not None
            for mark in _mark(at, study["recommendation"]["test"], f"{study['name']}, {words.quantity(at)}", name=str(number))
        ]
        if marks:
            drawn.append(figures.quality_against_cost(marks, metric=comparison["metric"], cost=title, numbers=numbers))
    return drawn
