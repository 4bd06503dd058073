"""The figures of the page as Vega-Lite charts, drawn once when the page is written, so that it needs no script to show them.

Colours are names of style-sheet variables: one drawing serves light, dark and print.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import altair as alt
import vl_convert
from markupsafe import Markup

from fteng.report import svg, words

INK, MUTED, LINE, GRID, ACCENT, SOFT = (f"var(--{name})" for name in ("ink", "muted", "line", "grid", "accent", "accent-soft"))
TITLE = alt.Description("title", type="nominal")
SERIES = tuple(f"var(--series-{index})" for index in range(1, 7))


class Mark(NamedTuple):
    """One dot, with what it says on hover as `title`.

    at: where it stands on the axis that is no score; value, low, high: the score and its interval (None: no interval);
    name: its row or label; chosen: drawn with emphasis; series: decides the colour; images: how many it stands for.
    """

    at: float
    value: float
    low: float | None
    high: float | None
    title: str
    name: str = ""
    chosen: bool = False
    series: str = ""
    images: int = 0


def depth_curve(
    marks: Sequence[Mark],
    trials: Sequence[Mark],
    *,
    metric: str,
    stages: Sequence[str],
    chance: float | None,
    recommended: float | None,
    series: Sequence[str],
    wide: bool,
) -> Markup:
    """Score against freeze depth: an interval a depth, a dot a trial (filled at the chosen rate), chance, the choice.

    trials stand right of their depth, one column a learning rate; `Mark.at` holds that place already. One that ran away so far
    that the plans would fill less than a third of the axis is a triangle at its edge.
    """
    depths = sorted({int(mark.at) for mark in marks})
    gap = spacing(depths, len(stages))
    low, high = _reach(marks, 1)
    domain = _domain(marks, chance, [mark.value for mark in trials if low <= mark.value <= high])
    names = {depth: stages[depth - 1] if 0 < depth <= len(stages) else "" for depth in depths}
    # The converter measures text in its own font, so its overlap test is too kind to names; 7 px a character is not.
    room = 850 * gap / (depths[-1] - depths[0] + 1.25 * gap)
    named = wide and 7 * max(len(name) for name in names.values()) < room
    labels = {str(depth): [str(depth), names[depth]] if named else str(depth) for depth in depths}
    axis = alt.Axis(
        values=depths,
        # JSON in ASCII is a literal of the expression language, whatever a stage is called.
        labelExpr=f"{json.dumps(labels)}[datum.value]",
        labelOverlap="greedy",
        labelSeparation=4,
        labelFlush=False,
        grid=False,
        title="←  everything tuned   ·   leading stages frozen   ·   linear probe  →"
        if wide
        else "← tuned  ·  stages frozen  ·  probe →",
    )
    x = alt.X("at:Q").axis(axis).scale(domain=[depths[0] - 0.5 * gap, depths[-1] + 0.75 * gap], nice=False, zero=False)
    y = _score(alt.Y("value:Q"), domain)
    color = alt.Color("series:N").scale(domain=list(series), range=list(SERIES)).legend(None)
    layers = []
    if recommended is not None:
        band = _chart([{"at": recommended - 0.3 * gap, "end": recommended + 0.55 * gap, "value": domain[1]}])
        text = band.mark_text(align="left", baseline="bottom", dy=-5, color=ACCENT, text="recommended", fontWeight=600, fontSize=12)
        layers += [band.mark_rect(color=SOFT).encode(x=x, x2=alt.X2("end")), text.encode(x=x, y=y)]
    layers += _chance(chance, domain, horizontal=True)
    dots = _chart([mark._asdict() | {"edge": min(max(mark.value, domain[0]), domain[1])} for mark in trials])
    dots = dots.mark_point(size=34, strokeWidth=1.3, opacity=0.75, aria=True)
    fill = alt.when("datum.chosen").then(color).otherwise(alt.value("transparent"))
    shape = alt.when("datum.value < datum.edge").then(alt.value("triangle-down"))
    shape = shape.when("datum.value > datum.edge").then(alt.value("triangle-up")).otherwise(alt.value("circle"))
    at_edge = _score(alt.Y("edge:Q"), domain)
    layers.append(dots.encode(x=x, y=at_edge, stroke=color, fill=fill, shape=shape, description=TITLE).properties(name="trials"))
    layers += _beyond(trials, domain, chance)
    rows = _chart([mark._asdict() for mark in marks])
    layers.append(rows.mark_line(strokeWidth=1.6, opacity=0.45).encode(x=x, y=y, color=color))
    layers += _intervals(marks, x, color, horizontal=False)
    layers.append(rows.mark_point(size=90, filled=True, opacity=1, aria=True).encode(x=x, y=y, color=color, description=TITLE))
    title = f"{words.capital(words.metric_name(metric))} on test images" + " (lower is better)" * words.lower_is_better(metric)
    size: dict[str, Any] = {"width": 850, "height": 350} if wide else {"width": 305, "height": 270}
    label = f"{title} against freeze depth; the table below has the values"
    return _draw(alt.layer(*layers), title, label=label, css_class="wide" if wide else "narrow", dy=-22, **size)


def probes(test: Sequence[Mark], val: Sequence[Mark], *, metric: str, stages: Sequence[str], chance: float | None) -> Markup:
    """Probe scores a tap, first stage on top: the test score with its interval, the validation score as a ring."""
    domain = _domain([*test, *val], chance)
    x, y = _score(alt.X("value:Q"), domain), _rows(stages)
    rings = _chart([mark._asdict() for mark in val]).mark_point(size=44, stroke=MUTED, strokeWidth=1.4, aria=True)
    dots = _chart([mark._asdict() for mark in test]).mark_point(size=60, filled=True, opacity=1, color=ACCENT, aria=True)
    layers = [
        *_chance(chance, domain, horizontal=False),
        *_intervals(test, y, alt.value(ACCENT), horizontal=True),
        rings.encode(x=x, y=y, description=TITLE),
        dots.encode(x=x, y=y, description=TITLE),
    ]
    title = f"{words.capital(words.metric_name(metric))} of the probe" + " (lower is better)" * words.lower_is_better(metric)
    return _draw(alt.layer(*layers), title, width=330, height=_step(stages))


def profile(marks: Sequence[Mark], *, title: str, stages: Sequence[str]) -> Markup:
    """One bar a stage, first stage on top."""
    bars = _chart([mark._asdict() for mark in marks]).mark_bar(height={"band": 0.6}, color=ACCENT, aria=True)
    x = alt.X("value:Q").axis(alt.Axis(tickCount=4, title=None)).scale(zero=True)
    return _draw(bars.encode(x=x, y=_rows(stages), description=TITLE), title, width=290, height=_step(stages))


def quality_against_cost(marks: Sequence[Mark], *, metric: str, cost: str, numbers: str) -> Markup:
    """Score against one cost; each point carries its freeze depth. Logarithmic where costs differ more than 20-fold.

    numbers: the d3 format of the cost.
    """
    costs = [mark.at for mark in marks]
    logarithmic = min(costs) > 0 and max(costs) > 20 * min(costs)
    scale = alt.Scale(type="log" if logarithmic else "linear", zero=False, nice=False, padding=24)
    x = alt.X("at:Q").axis(alt.Axis(title=cost, format=numbers, tickCount=5, grid=False, ticks=not logarithmic)).scale(scale)
    y = _score(alt.Y("value:Q"), _domain(marks, None))
    color = alt.when("datum.chosen").then(alt.value(ACCENT)).otherwise(alt.value(MUTED))
    rows = _chart([mark._asdict() for mark in marks])
    layers = [
        *_intervals(marks, x, color, horizontal=False),
        rows.mark_point(size=70, filled=True, opacity=1, aria=True).encode(x=x, y=y, color=color, description=TITLE),
        rows.mark_text(align="left", dx=7, dy=-8, fontSize=12).encode(x=x, y=y, text=alt.Text("name:N"), color=color),
    ]
    title = f"{words.capital(words.metric_name(metric))} on test images"
    return _draw(alt.layer(*layers), title, label=f"{title} against {cost}", width=330, height=240)


def differences(marks: Sequence[Mark], *, title: str, margin: float) -> Markup:
    """Paired differences with intervals, one row a plan; the line is no difference, the band the margin below it."""
    names = [mark.name for mark in marks]
    found = [bound for mark in marks for bound in (mark.value, mark.low, mark.high) if bound is not None] + [-margin, 0]
    scale = alt.Scale(domain=[min(found), max(found)], nice=True)
    x = alt.X("value:Q").axis(alt.Axis(title=None, tickCount=5, format="+~r", grid=False)).scale(scale)
    # A domain, not a sort: Vega-Lite would write the names of a sort into an expression.
    y = alt.Y("name:N").scale(domain=names).axis(alt.Axis(title=None, domain=False, ticks=False, labelLimit=170))
    dots = _chart([mark._asdict() for mark in marks]).mark_point(size=60, filled=True, opacity=1, color=INK, aria=True)
    layers = [
        _chart([{"value": -margin, "end": 0}]).mark_rect(color=SOFT).encode(x=x, x2=alt.X2("end")),
        _chart([{"value": 0}]).mark_rule(color=MUTED).encode(x=x),
        *_intervals(marks, y, alt.value(INK), horizontal=True),
        dots.encode(x=x, y=y, description=TITLE),
    ]
    return _draw(alt.layer(*layers), title, width=270, height=alt.Step(28))


def reliability(marks: Sequence[Mark], *, title: str, domain: tuple[float, float]) -> Markup:
    """How often it came true against the forecast, a dot a bin, its area the images; the dashed line is what was promised."""
    scale = alt.Scale(domain=list(domain), nice=False)
    x, y = (
        channel.axis(alt.Axis(title=title_, tickCount=5, format="~g", domain=False, ticks=False, labelFlush=False)).scale(scale)
        for channel, title_ in ((alt.X("at:Q"), "forecast"), (alt.Y("value:Q"), "came true"))
    )
    size = alt.Size("images:Q").scale(domain=[0, max(mark.images for mark in marks)], range=[0, 90]).legend(None)
    rows = _chart([mark._asdict() for mark in marks])
    layers = [
        _chart([{"at": end, "value": end} for end in domain]).mark_line(strokeDash=[4, 4], color=MUTED).encode(x=x, y=y),
        rows.mark_point(filled=True, opacity=0.85, color=ACCENT, aria=True).encode(x=x, y=y, size=size, description=TITLE),
    ]
    return _draw(alt.layer(*layers), title, label=f"{title}: forecast against what came true", width=250, height=250)


def spacing(depths: Sequence[int], stages: int) -> float:
    """The least distance of two freeze depths: what may stand beside a depth without reaching the next."""
    return min((right - left for left, right in itertools.pairwise(depths)), default=stages / 8)


def _chart(rows: Sequence[Mapping[str, Any]]) -> Any:
    # Altair generates its classes at run time from a schema; Any here keeps the calls above readable.
    # Altair copies a chart at each call: a list down to its numbers, a tuple not at all.
    return alt.Chart(alt.InlineData(values=tuple(rows)))


def _score(channel: Any, domain: tuple[float, float]) -> Any:
    axis = alt.Axis(title=None, tickCount=5, format=".2f", domain=False, ticks=False)
    return channel.axis(axis).scale(domain=list(domain), nice=False, zero=False)


def _rows(stages: Sequence[str]) -> Any:
    return alt.Y("name:N").scale(domain=list(stages)).axis(alt.Axis(title=None, domain=False, ticks=False, labelLimit=150))


def _step(stages: Sequence[str]) -> Any:
    return alt.Step(20 if len(stages) <= 40 else 14)


def _intervals(marks: Sequence[Mark], other: Any, color: Any, *, horizontal: bool) -> list[Any]:
    """One rule a mark that has both bounds; `other` is the channel that is no score."""
    rows = [mark._asdict() for mark in marks if mark.low is not None and mark.high is not None]
    rule = _chart(rows).mark_rule(strokeWidth=2.4, strokeCap="round")
    if horizontal:
        place = {"x": alt.X("low:Q"), "x2": alt.X2("high"), "y": other}
    else:
        place = {"x": other, "y": alt.Y("low:Q"), "y2": alt.Y2("high")}
    return [rule.encode(color=color, **place)]


def _bounds(marks: Sequence[Mark]) -> tuple[float, float]:
    found = [bound for mark in marks for bound in (mark.value, mark.low, mark.high) if bound is not None]
    return min(found), max(found)


def _reach(marks: Sequence[Mark], spreads: float) -> tuple[float, float]:
    """The range of the marks and so many of its widths on either side."""
    low, high = _bounds(marks)
    spread = max(high - low, 0.01)
    return low - spreads * spread, high + spreads * spread


def _domain(marks: Sequence[Mark], chance: float | None, more: Sequence[float] = ()) -> tuple[float, float]:
    """The range of the score axis: all scores and intervals, `more`, and chance unless it would press the marks into a third."""
    low, high = _bounds(marks)
    least, most = _reach(marks, 2)
    shown = [*more, *([chance] if chance is not None and least <= chance <= most else [])]
    low, high = min([low, *shown]), max([high, *shown])
    margin = 0.06 * max(high - low, 0.01)
    return low - margin, high + margin


def _beyond(trials: Sequence[Mark], domain: tuple[float, float], chance: float | None) -> list[Any]:
    """Words at the edges that trials lie beyond; above those of chance, where it lies there too."""
    lift = -20 if chance is not None and chance < domain[0] else -6
    below = [mark.value for mark in trials if mark.value < domain[0]]
    above = [mark.value for mark in trials if mark.value > domain[1]]
    layers = []
    for values, edge, side, baseline, dy in ((below, domain[0], "below", "bottom", lift), (above, domain[1], "above", "top", 6)):
        if values:
            low, high = f"{min(values):.2f}", f"{max(values):.2f}"
            text = f"{words.number(len(values), 'trial')} ({low if low == high else f'{low} to {high}'}) {side} this axis"
            rows = _chart([{"value": edge}])
            label = rows.mark_text(align="right", baseline=baseline, dx=-4, dy=dy, color=MUTED, fontSize=11, text=text)
            layers.append(label.encode(y=alt.Y("value:Q"), x=alt.value("width")).properties(name=f"trials_{side}"))
    return layers


def _chance(chance: float | None, domain: tuple[float, float], *, horizontal: bool) -> list[Any]:
    """A dashed line where a constant answer stands; words at the edge where that is off the axis."""
    if chance is None:
        return []
    inside = domain[0] <= chance <= domain[1]
    text = f"chance {chance:.2f}" if inside else f"chance ({chance:.2f}) is {'below' if chance < domain[0] else 'above'} this axis"
    rows = _chart([{"value": min(max(chance, domain[0]), domain[1])}])
    words_ = rows.mark_text(align="left", baseline="bottom", dx=4, dy=-3, color=MUTED, fontSize=11, text=text)
    channel = alt.Y("value:Q") if horizontal else alt.X("value:Q")
    label = words_.encode(y=channel, x=alt.value(0)) if horizontal else words_.encode(x=channel, y=alt.value("height"))
    line = rows.mark_rule(strokeDash=[4, 4], color=MUTED)
    return [line.encode(y=channel) if horizontal else line.encode(x=channel), label] if inside else [label] * horizontal


def _draw(chart: Any, title: str, *, width: Any, height: Any, label: str = "", css_class: str = "", dy: int = -10) -> Markup:
    axis = alt.AxisConfig(labelColor=MUTED, titleColor=MUTED, gridColor=GRID, domainColor=LINE, tickColor=LINE)
    axis.labelFontSize = axis.titleFontSize = 12
    axis.titleFontWeight, axis.labelPadding, axis.titlePadding = "normal", 6, 10
    config = alt.Config(
        background="transparent",
        font="sans-serif",
        padding=4,
        axis=axis,
        mark=alt.MarkConfig(aria=False),
        view=alt.ViewConfig(stroke=None),
        title=alt.TitleConfig(anchor="start", frame="bounds", color=INK, fontSize=13, fontWeight=600),
    )
    spec = chart.properties(width=width, height=height, title=alt.Title(title, dy=dy), config=config)
    return svg.inline(vl_convert.vegalite_to_svg(spec.to_dict(validate=False), allowed_base_urls=[]), label or title, css_class)
