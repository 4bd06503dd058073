"""The data against the source, stage by stage: each distance beside its zero, and the first stage where they are told apart."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from fteng.similarity import distances
from fteng.similarity.layers import Known, known_stage
from fteng.similarity.zero import DISTANCES, noticeable, zeros
from fteng.undefined import UndefinedError, stated

LEVEL = 0.05
_ABOUT = {
    "batch_norm": "Batch norm's mean and variance of each channel are a running average over the last batches of pretraining. Their"
    " own sampling error is not known and is taken for none; images there were sized and augmented in a way of their own.",
    "file": "Mean and variance of each channel are of the images in the source profile; their sampling error is taken for none.",
    "none": "There is no source profile to compare with.",
}
_ABSENT = {
    "batch_norm": "this stage has no batch norm",
    "file": "the source profile has nothing of this stage",
    "none": "there is no source profile",
}


class SourceMoments(NamedTuple):
    """What is known of the source and, in the same place of the network, of the training images.

    kind: batch_norm, file or none; source, seen: one tree a stage, layers are mappings with `mean` and `var` (channels,); parts:
    the same as `seen` of disjoint parts of the training images, equally many images each, no group in two; empty where the pass
    kept none.
    """

    kind: str
    source: Sequence[Any]
    seen: Sequence[Any]
    parts: Sequence[Sequence[Any]]


def compare_with_source(stages: Sequence[str], moments: SourceMoments) -> dict[str, Any]:
    """`rows`: one a stage, of each distance value, reason and zero, and p; `first_noticeable`: a stage or None, and `reason`."""
    known: dict[str, Known | str] = {}
    for index, stage in enumerate(stages):
        try:
            parts = [part[index] for part in moments.parts]
            known[stage] = known_stage(moments.source[index], moments.seen[index], parts, absent=_ABSENT[moments.kind])
        except UndefinedError as error:
            known[stage] = str(error)
    compared = {stage: found for stage, found in known.items() if isinstance(found, Known)}
    p: dict[str, float] = {}
    reason = "" if compared else _ABOUT["none"]
    if compared:
        try:
            p = dict(zip(compared, noticeable(list(compared.values())), strict=True))
        except UndefinedError as error:
            reason = str(error)
    rows = [{"stage": stage, **_row(found), "p": p.get(stage)} for stage, found in known.items()]
    first = next((row["stage"] for row in rows if row["p"] is not None and row["p"] <= LEVEL), None)
    return {
        "source": moments.kind,
        "about": _ABOUT[moments.kind],
        "parts": len(moments.parts),
        "level": LEVEL,
        "rows": rows,
        "first_noticeable": first,
        "reason": reason,
    }


def profile(compared: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The two plainest distances alone, as they stand in the summary, one row a stage: stage, mean_shift, log_variance_ratio
    (None where `reason` says why), channels, source, reason."""
    rows = []
    for row in compared["rows"]:
        values = {name: row[name]["value"] for name in ("mean_shift", "log_variance_ratio")}
        about = {"channels": row.get("channels", 0), "source": compared["source"], "reason": row["mean_shift"]["reason"]}
        rows.append({"stage": row["stage"], **values, **about})
    return rows


def _row(found: Known | str) -> dict[str, Any]:
    if isinstance(found, str):
        return {name: {"value": None, "reason": found, "zero": None} for name in DISTANCES}
    one = (found.source_mean, found.source_var)
    values = {
        "mean_shift": stated(lambda: distances.mean_shift(found.mean, *one)),
        "log_variance_ratio": stated(lambda: distances.log_variance_ratio(found.var, one[1])),
        "diagonal_frechet": stated(lambda: distances.diagonal_frechet(found.mean, found.var, *one)),
    }
    bands: dict[str, Any] = dict.fromkeys(DISTANCES)
    # Why there is no zero is said once, beside the test, which needs the same parts.
    with suppress(UndefinedError):
        bands = {name: band._asdict() for name, band in zeros(found).items()}
    return {name: value | {"zero": bands[name]} for name, value in values.items()} | {"channels": len(found.mean)}


def median_shift(compared: dict[str, Any]) -> float | None:
    """The middle one of the stages' mean shifts, None where no stage has one."""
    values = [row["mean_shift"]["value"] for row in compared["rows"] if row["mean_shift"]["value"] is not None]
    return float(np.median(values)) if values else None
