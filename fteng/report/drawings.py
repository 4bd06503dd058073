"""Which figures a summary gives, and what each mark of them says on hover."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from altair.utils import schemapi
from markupsafe import Markup

from fteng.report import distances, figures, view, words
from fteng.report.figures import Mark

Summary = Mapping[str, Any]


class Drawings(NamedTuple):
    """All figures; a section whose list is empty has nothing to draw yet. depth, probes: (metric, drawings) each."""

    depth: list[tuple[str, list[Markup]]]
    series: list[tuple[str, str]]
    probes: list[tuple[str, list[Markup]]]
    profile: list[Markup]
    cost: list[Markup]
    differences: Markup | None
    reliability: list[Markup]


def draw(summary: Summary) -> Drawings:
    """Every figure of the page."""
    # Altair checks every part of a chart against its schema: half of the time of the page. The tests draw with the checks on.
    with schemapi.debug_mode(False):
        return _draw(summary)


def _draw(summary: Summary) -> Drawings:
    metrics = view.metrics(summary)
    names = list(dict.fromkeys(view.series(row) for row in view.curve(summary) if row["freeze_depth"] is not None))
    series = [(name, figures.SERIES[index % len(figures.SERIES)]) for index, name in enumerate(names)]
    return Drawings(
        depth=[(metric, drawn) for metric in metrics if (drawn := _depth(summary, metric, names))],
        series=series,
        probes=[(metric, drawn) for metric in metrics if (drawn := _probes(summary, metric))],
        profile=_profile(summary),
        cost=_cost(summary),
        differences=_differences(summary),
        reliability=_reliability(summary),
    )


def _mark(row: Mapping[str, Any], metric: str, at: float, title: str, **more: Any) -> list[Mark]:
    """The mark of an estimate, none where it is undefined."""
    estimate = row["test"].get(metric)
    if estimate is None or estimate["value"] is None:
        return []
    said = f"{title}: {words.metric_name(metric)} {words.interval(estimate)}"
    return [Mark(at, estimate["value"], estimate["low"], estimate["high"], said, **more)]


def _depth(summary: Summary, metric: str, names: list[str]) -> list[Markup]:
    curve = [row for row in view.curve(summary) if row["freeze_depth"] is not None]
    best = view.recommended(summary)
    marks = [
        mark
        for row in curve
        for mark in _mark(
            row,
            metric,
            row["freeze_depth"],
            f"freeze depth {view.name(row, summary)}" + ("" if view.is_probe(row) else f", rate {row['learning_rate']:g}"),
            series=view.series(row),
        )
    ]
    if not marks:
        return []
    depths = sorted({int(mark.at) for mark in marks})
    chosen = {(view.series(row), row["freeze_depth"]): row["learning_rate"] for row in curve}
    rates = sorted({trial["learning_rate"] for trial in view.trained(summary)})
    step = figures.spacing(depths, len(summary["stages"])) * min(0.12, 0.45 / max(len(rates), 1))
    trials = []
    for trial in view.trained(summary):
        value, key = trial["test"].get(metric), (view.series(trial), trial["freeze_depth"])
        if value is None or key not in chosen:
            continue
        rate = trial["learning_rate"]
        title = f"trial at freeze depth {trial['freeze_depth']}, rate {rate:g}, seed {trial['seed']}: {value:.3f}"
        at = trial["freeze_depth"] + step * (1 + rates.index(rate))
        trials.append(Mark(at, value, None, None, title, chosen=rate == chosen[key], series=key[0]))
    options: dict[str, Any] = {
        "metric": metric,
        "stages": summary["stages"],
        "series": names,
        "chance": summary["chance"].get(metric),
    }
    options["recommended"] = best["freeze_depth"] if best is not None and best["freeze_depth"] in depths else None
    return [figures.depth_curve(marks, trials, wide=wide, **options) for wide in (True, False)]


def _probes(summary: Summary, metric: str) -> list[Markup]:
    rows = summary["probes"]
    test = [
        mark for row in rows for mark in _mark(row, metric, row["stage_index"], f"probe on {row['tap']}, test", name=row["tap"])
    ]
    val = [
        Mark(row["stage_index"], value, None, None, f"probe on {row['tap']}, validation: {value:.3f}", name=row["tap"])
        for row in rows
        if (value := row["val"].get(metric)) is not None
    ]
    taps = [row["tap"] for row in rows]
    return [figures.probes(test, val, metric=metric, stages=taps, chance=summary["chance"].get(metric))] if test else []


def _profile(summary: Summary) -> list[Markup]:
    """Beside their zeros, where those are known."""
    if summary.get("similarity"):
        return distances.draw(summary)
    drawn = []
    for key, title in (
        ("mean_shift", "Mean shift, source standard deviations"),
        ("log_variance_ratio", "Change of spread, |ln variance ratio|"),
    ):
        known = [row for row in summary["profile"] if row[key] is not None]
        marks = [
            Mark(0, row[key], None, None, f"{row['stage']}: {row[key]:.3f} over {row['channels']:,} channels", name=row["stage"])
            for row in known
        ]
        if marks:
            drawn.append(figures.profile(marks, title=title, stages=summary["stages"]))
    return drawn


def _cost(summary: Summary) -> list[Markup]:
    """Of the metric that decides alone."""
    best, metric, drawn = view.recommended(summary), summary["judge"]["metric"], []
    costs = (("seconds", "Time of a trial, seconds", "~g"), ("flops_per_example", "FLOPs of a training step per image", "~s"))
    for key, title, numbers in costs:
        marks = [
            mark
            for row in summary["depth_curve"]
            if (at := row["cost"].get(key)) is not None
            for mark in _mark(
                row, metric, at, f"{view.name(row, summary)}, {words.quantity(at)}", name=_short(row), chosen=row is best
            )
        ]
        if marks:
            drawn.append(figures.quality_against_cost(marks, metric=metric, cost=title, numbers=numbers))
    return drawn


def _short(row: Mapping[str, Any]) -> str:
    if view.is_probe(row):
        return "probe"
    return f"{row['freeze_depth']}{view.way(row)}" if row["freeze_depth"] is not None else row["label"]


def _differences(summary: Summary) -> Markup | None:
    choice = summary["recommendation"]
    if not choice:
        return None
    known = [row for row in choice["alternatives"] if row["difference"] is not None]
    if not known:
        return None
    marks: list[Mark] = []
    names = [view.name(row, summary) for row in known]
    for index, row in enumerate(known):
        # Two plans of one name would be drawn over each other.
        earlier = names[:index].count(names[index])
        name = f"{names[index]} ({earlier + 1})" if earlier else names[index]
        title = f"{name} against the best plan: {words.difference(row)}"
        marks.append(Mark(0, row["difference"], row["low"], row["high"], title, name=name))
    title = f"{words.capital(words.metric_name(choice['metric']))} against the best plan"
    return figures.differences(marks, title=title, margin=summary["judge"]["margin"])


def _reliability(summary: Summary) -> list[Markup]:
    """Before and, where a temperature was fitted, after, on the same axes."""
    found = summary.get("calibration")
    if found is None:
        return []
    shown = [("As trained", found["bins_before"])]
    if found["bins_after"] is not None:
        shown.append((f"After temperature {found['temperature']:.2f}", found["bins_after"]))
    panels = [
        (
            title,
            [
                Mark(cell["forecast"], cell["observed"], None, None, _bin(cell), images=cell["images"])
                for cell in bins
                if cell["forecast"] is not None and cell["observed"] is not None
            ],
        )
        for title, bins in shown
    ]
    shares = [share for _, marks in panels for mark in marks for share in (mark.at, mark.value)]
    if not shares:
        return []
    high = math.ceil(10 * max(shares)) / 10
    domain = min(math.floor(10 * min(shares)) / 10, high - 0.1), high
    return [figures.reliability(marks, title=title, domain=domain) for title, marks in panels if marks]


def _bin(cell: Mapping[str, Any]) -> str:
    return f"{words.number(cell['images'], 'image')}: forecast {cell['forecast']:.3f}, came true {cell['observed']:.3f}"
