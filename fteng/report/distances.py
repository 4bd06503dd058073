"""Figures of the profile: each distance of the data, stage by stage, beside its zero. From the summary alone."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import altair as alt
from altair.utils import schemapi
from markupsafe import Markup

from fteng.report import figures, words
from fteng.report.figures import Mark
from fteng.report.tables import Table

Summary = Mapping[str, Any]
_DISTANCES = (
    ("mean_shift", "Mean shift, source standard deviations"),
    ("log_variance_ratio", "Change of spread, |ln variance ratio|"),
    ("diagonal_frechet", "Squared Frechet distance, independent channels"),
)
_SPLITS = (
    ("mmd2", "Test against training images, MMD²"),
    ("frechet", "Test against training images, squared Frechet distance"),
)


def how_similar(summary: Summary) -> str:
    """The answer to how like the source the data are, in one sentence."""
    said, stages = summary["similarity"], len(summary["stages"])
    known = [row["mean_shift"] for row in said["profile"]["rows"] if row["mean_shift"]["value"] is not None]
    useful = said["task"]["useful"]
    told = []
    if known:
        zeros = [cell["zero"]["high"] for cell in known if cell["zero"] is not None]
        chance = f" (by chance alone up to {median(zeros):.2f})" if zeros else ""
        where = f"the median of {'its' if len(known) == stages else f'{len(known)} of its'} {stages} stages"
        shift = median(cell["value"] for cell in known)
        told.append(f"in {where} the mean of a channel lies {shift:.2f} standard deviations from where the source had it{chance}")
    else:
        reason = said["profile"]["reason"].rstrip(".")
        told.append(f"how far their features lie from the source's is not known ({reason[:1].lower()}{reason[1:]})")
    if useful["value"] is None:
        told.append(f"what the source head makes of them is not known ({useful['reason']})")
    else:
        chance = "" if useful["zero"] is None else f" (by chance alone {100 * useful['zero']['mean']:.0f} %)"
        told.append(
            f"the source head's answers tell {100 * useful['value']:.0f} % of what there is to tell about the class{chance}"
        )
    return f"{words.capital(told[0])}; {told[1]}."


def sentences(summary: Summary) -> list[str]:
    """Whether the data are told apart from the source, and test images from those trained on, and from where on."""
    said = summary["similarity"]
    profile, splits, told = said["profile"], said["splits"], []
    if profile["first_noticeable"] is not None:
        told.append(
            f"The data differ noticeably from the source from {profile['first_noticeable']} on (at most"
            f" {100 * profile['level']:g} % false alarms over all stages; the source's own sampling error is taken for none)."
        )
    elif profile["reason"]:
        told.append(f"Whether the data differ from the source was not tested: {profile['reason']}.")
    else:
        told.append("No stage shows a difference from the source beyond chance; the source's own sampling error is taken for none.")
    if splits["first_noticeable"] is not None:
        told.append(
            f"The test images differ from the training images from {splits['first_noticeable']} on: scores on them speak of images"
            " that are unlike those trained on."
        )
    return told


def draw(summary: Summary) -> list[Markup]:
    """A figure a distance that is known of any stage."""
    said = summary["similarity"]
    kinds = [(title, [(row["stage"], row[name], row["p"]) for row in said["profile"]["rows"]]) for name, title in _DISTANCES]
    # p is of MMD².
    tested = [(name, title, name == "mmd2") for name, title in _SPLITS]
    kinds += [
        (title, [(row["stage"], row[name], row["p"] if p else None) for row in said["splits"]["rows"]]) for name, title, p in tested
    ]
    known = [(title, [row for row in rows if row[1]["value"] is not None]) for title, rows in kinds]
    with schemapi.debug_mode(False):
        return [_with_zero([_distance(*row) for row in rows], title, said["stages"]) for title, rows in known if rows]


def table(summary: Summary) -> Table:
    """A row a stage: each distance with what chance alone would give, the numbers behind the dots and bands."""
    said = summary["similarity"]
    kinds = [(title, {row["stage"]: row[name] for row in said["profile"]["rows"]}) for name, title in _DISTANCES]
    kinds += [(title, {row["stage"]: row[name] for row in said["splits"]["rows"]}) for name, title in _SPLITS]
    known = [(title, cells) for title, cells in kinds if any(cell["value"] is not None for cell in cells.values())]
    rows = [(str(stage), *(_with_chance(cells.get(stage)) for _, cells in known)) for stage in said["stages"]]
    return Table("Profile", ("Stage", *(title for title, _ in known)), rows)


def _with_chance(cell: Mapping[str, Any] | None) -> str:
    if cell is None or cell["value"] is None:
        return words.UNDEFINED
    zero = cell["zero"]
    return words.figure(cell["value"]) + (
        "" if zero is None else f" [chance {words.figure(zero['low'])}, {words.figure(zero['high'])}]"
    )


def _distance(stage: str, cell: Mapping[str, Any], p: float | None) -> Mark:
    zero, value = cell["zero"], cell["value"]
    chance = (
        ""
        if zero is None
        else f", by chance alone {words.figure(zero['mean'])} [{words.figure(zero['low'])}, {words.figure(zero['high'])}]"
    )
    told = "" if p is None else f", p {words.p_value(p)}"
    low, high = (None, None) if zero is None else (zero["low"], zero["high"])
    return Mark(0, value, low, high, f"{stage}: {words.figure(value)}{chance}{told}", name=stage)


def _with_zero(marks: Sequence[Mark], title: str, stages: Sequence[str]) -> Markup:
    """A dot a stage, first stage on top, beside the band in which chance alone would put it."""
    x, y = alt.X("value:Q").axis(alt.Axis(tickCount=4, title=None)).scale(zero=True), figures._rows(stages)
    bands = [mark._asdict() for mark in marks if mark.low is not None]
    band = figures._chart(bands).mark_bar(height={"band": 0.8}, color=figures.SOFT)
    dots = figures._chart([mark._asdict() for mark in marks]).mark_point(
        size=60, filled=True, opacity=1, color=figures.ACCENT, aria=True
    )
    layers = [
        band.encode(x=alt.X("low:Q").axis(alt.Axis(tickCount=4, title=None)).scale(zero=True), x2=alt.X2("high"), y=y),
        dots.encode(x=x, y=y, description=figures.TITLE),
    ]
    return figures._draw(alt.layer(*layers), title, width=290, height=figures._step(stages))
