"""The numbers behind each figure whose section has no table of them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from fteng.report import view, words

Summary = Mapping[str, Any]


class Table(NamedTuple):
    """label: names its CSV; heads: of the columns; rows: cells, the first names the row."""

    label: str
    heads: tuple[str, ...]
    rows: list[tuple[str, ...]]


def profile(summary: Summary) -> Table:
    """Each stage's distance from the source."""
    rows = [
        (row["stage"], words.score(row["mean_shift"]), words.score(row["log_variance_ratio"]), f"{row['channels']:,}")
        for row in summary["profile"]
    ]
    return Table("Profile", ("Stage", "Mean shift", "|ln variance ratio|", "Channels"), rows)


def reliability(summary: Summary) -> Table:
    """Each bin of the reliability diagrams."""
    found = summary["calibration"]
    after = found["bins_after"] or [None] * len(found["bins_before"])
    rows = []
    for number, (one, other) in enumerate(zip(found["bins_before"], after, strict=True), 1):
        cells = [one] if other is None else [one, other]
        rows.append((str(number), *(text for cell in cells for text in _bin(cell))))
    states = ("as trained",) if found["bins_after"] is None else ("as trained", "after temperature")
    heads = tuple(f"{name}, {state}" for state in states for name in ("Images", "Forecast", "Came true"))
    return Table("Reliability", ("Bin", *heads), rows)


def quality_against_cost(summary: Summary) -> Table:
    """Each plan's score beside its two costs, as numbers."""
    metric = summary["judge"]["metric"]
    rows = [
        (
            view.name(row, summary),
            words.interval(row["test"].get(metric)),
            *("–" if row["cost"].get(key) is None else f"{row['cost'][key]:.4g}" for key in ("seconds", "flops_per_example")),
        )
        for row in view.curve(summary)
    ]
    return Table(
        "Quality against cost", ("Freeze depth", words.capital(words.metric_name(metric)), "Seconds", "FLOPs per image"), rows
    )


def _bin(cell: Mapping[str, Any]) -> tuple[str, str, str]:
    return f"{cell['images']:,}", words.score(cell["forecast"]), words.score(cell["observed"])
