"""ROC and precision-recall of the recommended plan: drawn line by line, since each is one band and one line in a square."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

from fteng.report import words

Summary = Mapping[str, Any]
# Of the square, and what stands left of it and below it.
_SIDE, _LEFT, _TOP, _BELOW = 250, 50, 26, 44
_TITLE = 40
_SHOWN = (0.02, 0.04, 0.06, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def names(summary: Summary) -> list[str]:
    """What each row of the curves is called in the choice above them."""
    return ["mean of all classes" if row["positive"] is None else row["positive"] for row in summary["curves"]["rows"]]


def finding(summary: Summary) -> str:
    """What the curves are of, what is called positive, and what a band means."""
    curves, dataset, judge = summary["curves"], summary["dataset"], summary["judge"]
    if curves["classes"] == 2:
        text = f"The class {curves['rows'][0]['positive']} is the positive one, the last by the alphabet."
    else:
        text = "Each class is set against the rest; the mean gives every class the same weight."
        if len(curves["rows"]) < curves["classes"]:
            text = f"Of {curves['classes']} classes, each against the rest, the {len(curves['rows'])} that are told apart worst."
    unit = "images" if dataset["groups"].get("test") == sum(dataset["counts"].get("test", {}).values()) else "groups"
    mean = f", mean of {words.number(curves['seeds'], 'seed')}" * (curves["seeds"] > 1)
    return (
        f"{text} The curves are those of the recommended plan{mean}. The bands are {judge['confidence'] * 100:g} % intervals at"
        f" each place, from {curves['resamples']:,} bootstrap resamples of the {unit}; a whole curve leaves its band more often"
        " than one place does."
    )


def draw(summary: Summary) -> list[list[Markup]]:
    """Of each row the ROC curve and the precision-recall curve; nothing where a curve is undefined."""
    drawn = []
    for name, row in zip(names(summary), summary["curves"]["rows"], strict=True):
        pair = []
        if None not in row["roc"]["value"]:
            pair.append(_roc(name, row))
        if None not in row["precision"]["value"]:
            pair.append(_precision(name, row))
        drawn.append(pair)
    return drawn


def points(row: Mapping[str, Any], summary: Summary) -> list[dict[str, str]]:
    """The points a clinic works at, in words."""
    temperature, shown = _temperature(summary), []
    for point in row["points"]:
        threshold = point["threshold"]
        shown.append(
            {
                "keeps": f"{words.capital(point['keeps'])} ≥ {100 * point['level']:.0f} %",
                "best": words.interval(point["best"]),
                "other": "sensitivity" if point["keeps"] == "specificity" else "specificity",
                "threshold": "–" if threshold is None else _probability(threshold, point.get("log_odds")),
                "calibrated": "–" if threshold is None else _calibrated(threshold, point.get("log_odds"), temperature),
                "sensitivity": "–" if point["sensitivity"] is None else words.interval(point["sensitivity"]),
                "specificity": "–" if point["specificity"] is None else words.interval(point["specificity"]),
            }
        )
    return shown


def is_calibrated(summary: Summary) -> bool:
    """Whether a threshold has a calibrated twin: with more classes the temperature may turn the order of two images around."""
    return summary["curves"]["classes"] == 2 and _temperature(summary) is not None


def _temperature(summary: Summary) -> float | None:
    return (summary.get("calibration") or {}).get("temperature")


def _calibrated(threshold: float, log_odds: float | None, temperature: float | None) -> str:
    if temperature is None or (log_odds is None and not 0 < threshold < 1):
        return "–"
    scaled = (math.log(threshold / (1 - threshold)) if log_odds is None else log_odds) / temperature
    return _probability(_expit(scaled), scaled)


def _expit(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds)) if log_odds > 0 else math.exp(max(log_odds, -700)) / (1 + math.exp(max(log_odds, -700)))


def _probability(value: float, log_odds: float | None) -> str:
    """Three figures, near 1 of what is missing to it: 0.99987, or `1 − 2.3e-12`."""
    missing = 1 - value if log_odds is None else _expit(-log_odds)
    if missing >= 0.01:
        return f"{value:.3g}"
    if missing < 1e-6:
        return f"1 − {missing:.2g}" if missing else "1"
    return f"{value:.{math.ceil(-math.log10(missing)) + 1}f}"


def rows(row: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The curves at a dozen places: (place, sensitivity there, precision there)."""
    read = {name: {round(at, 3): place for place, at in enumerate(row[name]["at"])} for name in ("roc", "precision")}
    return [(f"{at:.2f}", _at(row["roc"], read["roc"][at]), _at(row["precision"], read["precision"][at])) for at in _SHOWN]


def csv(row: Mapping[str, Any]) -> str:
    """Every place of both curves as the address of a CSV file that is part of the page."""
    lines = ["curve,at,value,low,high"]
    for name, title in (("roc", "roc"), ("precision", "precision-recall")):
        band = row[name]
        cells = zip(band["at"], band["value"], band["low"], band["high"], strict=True)
        lines += [",".join([title, *("" if cell is None else f"{cell:g}" for cell in place)]) for place in cells]
    return "data:text/csv;charset=utf-8," + quote("\r\n".join(lines) + "\r\n", safe=",")


def _at(band: Mapping[str, Sequence[float | None]], place: int) -> str:
    return words.interval({name: band[name][place] for name in ("value", "low", "high")})


def _roc(name: str, row: Mapping[str, Any]) -> Markup:
    dots = []
    for point in row["points"]:
        place, other = point["level"], point["best"]["value"]
        if other is None:
            continue
        at, value = (1 - place, other) if point["keeps"] == "specificity" else (1 - other, place)
        said = {"specificity": "sensitivity", "sensitivity": "specificity"}[point["keeps"]]
        dots.append((at, value, f"{point['keeps']} {place:.0%}: {said} {words.interval(point['best'])}"))
    line = [*zip(row["roc"]["at"], row["roc"]["value"], strict=True)]
    reference = "M0 1L1 0"
    return _square(f"ROC curve, {name}", "false positive rate (1 − specificity)", "sensitivity", row["roc"], line, reference, dots)


def _precision(name: str, row: Mapping[str, Any]) -> Markup:
    line = [*zip(row["precision"]["at"], row["precision"]["value"], strict=True)]
    share = row["share"]
    reference = "" if share is None else f"M0 {1 - share:.4f}H1"
    return _square(f"Precision-recall, {name}", "recall (sensitivity)", "precision", row["precision"], line, reference, [])


def _square(
    title: str,
    across: str,
    up: str,
    band: Mapping[str, Sequence[float | None]],
    line: Sequence[tuple[float, float]],
    reference: str,
    dots: Sequence[tuple[float, float, str]],
) -> Markup:
    """A curve with its band in the unit square. dots: (across, up, what it says)."""
    width, height = _LEFT + _SIDE + 12, _TOP + _SIDE + _BELOW
    bounds = zip(band["at"], band["low"], band["high"], strict=True)
    known = [(at, low, high) for at, low, high in bounds if at is not None and low is not None and high is not None]
    # A name that nobody can break would run out of the page.
    shown = title if len(title) <= _TITLE else title[: _TITLE - 1] + "…"
    head = "fill:var(--ink);font-weight:600;font-size:13px"
    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}; the table below has its values"'
        f' style="max-width:{width}px" font-size="12"><text x="0" y="13" style="{head}">{escape(shown)}</text>'
        f'<g transform="translate({_LEFT},{_TOP})">'
    ]
    for tick in range(6):
        at, label = round(_SIDE * tick / 5, 1), f"{tick / 5:g}"
        parts.append(
            f'<path d="M0 {at}H{_SIDE}M{at} 0V{_SIDE}" style="stroke:var(--grid)"/>'
            f'<text x="-7" y="{_SIDE - at + 4}" text-anchor="end" style="fill:var(--muted)">{label}</text>'
            f'<text x="{at}" y="{_SIDE + 17}" text-anchor="middle" style="fill:var(--muted)">{label}</text>'
        )
    label = 'text-anchor="middle" style="fill:var(--muted)"'
    parts.append(f'<text x="{_SIDE / 2}" y="{_SIDE + 37}" {label}>{escape(across)}</text>')
    parts.append(f'<text transform="translate(-38,{_SIDE / 2}) rotate(-90)" {label}>{escape(up)}</text>')
    if known:
        edge = [(at, low) for at, low, _ in known] + [(at, high) for at, _, high in reversed(known)]
        parts.append(f'<path d="{_path(edge)}Z" style="fill:var(--accent);opacity:.18"/>')
    if reference:
        # In the unit square; the stroke keeps its own width.
        parts.append(
            f'<path d="{reference}" transform="scale({_SIDE})" vector-effect="non-scaling-stroke"'
            ' style="fill:none;stroke:var(--muted);stroke-dasharray:4 4"/>'
        )
    parts.append(f'<path d="{_path(line)}" style="fill:none;stroke:var(--accent);stroke-width:2"/>')
    spots = (("fill:transparent", 7, _places(band)), ("fill:var(--accent);stroke:var(--panel)", 4, dots))
    for look, radius, marks in spots:
        parts.append(f'<g style="{look}">')
        for at, value, said in marks:
            x, y = at * _SIDE, (1 - value) * _SIDE
            parts.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{radius}"><title>{escape(said)}</title></circle>')
        parts.append("</g>")
    # Every part above is made of numbers, fixed words and escaped names.
    return Markup("".join(parts) + "</g></svg>")


def _places(band: Mapping[str, Sequence[float | None]]) -> Iterator[tuple[float, float, str]]:
    """Where the curve itself speaks on hover: every fifth place."""
    for place in range(0, len(band["at"]), 5):
        at, value = band["at"][place], band["value"][place]
        if at is not None and value is not None:
            yield at, value, f"at {at:.3g}: {_at(band, place)}"


def _path(points_: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{at * _SIDE:.1f} {(1 - value) * _SIDE:.1f}" for at, value in points_)
