"""Pictures of records, docs/NAME.svg: what people rather look at than read."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair as alt
import vl_convert

Row = Mapping[str, Any]


def _growth(rows: Sequence[Row]) -> alt.TopLevelMixin:
    """Seconds over work, both logarithmic, a panel for each thing that grows; dashed: linear from the smallest study on."""
    points = [
        {"grows": row["grows"], "value": row["value"], "phase": phase, "seconds": row[phase]}
        for row in rows
        if "grows" in row
        for phase in ("probes", "trials")
    ]
    first = {(point["grows"], point["phase"]): point for point in reversed(points)}
    lines = []
    for point in points:
        start = first[point["grows"], point["phase"]]
        lines.append({**point, "seconds": start["seconds"] * point["value"] / start["value"]})
    panels = []
    for what in dict.fromkeys(point["grows"] for point in points):
        x = alt.X("value:Q", title=what, scale=alt.Scale(type="log"))
        y = alt.Y("seconds:Q", title="seconds", scale=alt.Scale(type="log"))
        colour = alt.Color("phase:N", title=None, scale=alt.Scale(range=["#0072b2", "#d55e00"]))
        measured = alt.Chart(alt.Data(values=[one for one in points if one["grows"] == what])).mark_line(point=True)
        linear = alt.Chart(alt.Data(values=[one for one in lines if one["grows"] == what])).mark_line(
            strokeDash=[4, 4], opacity=0.5
        )
        layers = [layer.encode(x=x, y=y, color=colour) for layer in (linear, measured)]
        panels.append(alt.layer(*layers).properties(width=200, height=180))
    return alt.hconcat(*panels).configure(background="white")


PLOTS: dict[str, Callable[[Sequence[Row]], alt.TopLevelMixin]] = {"growth": _growth}


def svg(name: str, rows: Sequence[Row]) -> str:
    """Of a record's rows."""
    return vl_convert.vegalite_to_svg(PLOTS[name](rows).to_dict(validate=False), allowed_base_urls=[]) + "\n"
