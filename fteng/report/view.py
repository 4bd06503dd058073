"""What the template shows, section by section, from a summary. Every text here is plain: the template escapes it."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fteng.freeze.plan import describe_probe
from fteng.report import words
from fteng.trials import Variant

Summary = Mapping[str, Any]
# What no page and no XML may hold: control characters and halves of surrogate pairs, as odd file names have them.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_SHOWN = 200
# The audit's row that a sentence of the section on data rests on.
_WHOLE_GROUPS = "no group stands on both sides of a split"


def clean(value: Any) -> Any:
    """The same nested value with unprintable characters replaced by U+FFFD and numbers that are none by None (undefined)."""
    if isinstance(value, str):
        return _UNPRINTABLE.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {clean(name): clean(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def metrics(summary: Summary) -> list[str]:
    """Every metric of the study, the one that decides first."""
    found = dict.fromkeys([summary["judge"]["metric"]])
    for row in [*summary["depth_curve"], *summary["probes"]]:
        found |= dict.fromkeys(row["test"])
    return list(found)


def curve(summary: Summary) -> list[Mapping[str, Any]]:
    """The rows of the depth curve by freeze depth; stage sets, which have none, last."""
    return sorted(summary["depth_curve"], key=lambda row: (row["freeze_depth"] is None, row["freeze_depth"] or 0))


def is_probe(row: Mapping[str, Any]) -> bool:
    """Whether a curve row is the solution of a probe and not of trials: such a row has no learning rate."""
    return row["learning_rate"] is None


def is_control(row: Mapping[str, Any]) -> bool:
    """Whether a row shows what pretraining is worth, and is nothing to use."""
    return row.get("variant", {}).get("init", "pretrained") != "pretrained"


def series(row: Mapping[str, Any]) -> str:
    """What a line of the depth curve has in common: the tap, and how it is trained if not as usual. A probe stands alone."""
    if is_probe(row):
        return row["label"]
    return f"tap {row['tap']}" + way(row)


def name(row: Mapping[str, Any], summary: Summary) -> str:
    """The plan of a curve row, trial or alternative, short; with its tap where the study has several."""
    trained, label = row.get("trainable_stages"), row.get("label", "")
    probes = {describe_probe(probe["tap"]) for probe in summary["probes"]}
    if trained == [] and label in probes | {other["label"] for other in summary["depth_curve"] if is_probe(other)}:
        return label
    text = words.depth_name(row["freeze_depth"], row["tap"], summary["stages"], label or f"only {', '.join(trained or [])}")
    several = len({trial["tap"] for trial in summary["trials"]}) > 1
    return text + way(row) + f", tap {row['tap']}" * several


def way(row: Mapping[str, Any]) -> str:
    """What sets a plan apart from the usual way of training it, as the end of a phrase; empty for the usual way."""
    leaves, variant = row.get("leaves", "all"), Variant(**row.get("variant", {})).label
    return f", {leaves} only" * (leaves != "all") + f", {variant}" * bool(variant)


def ended(summary: Summary) -> list[Mapping[str, Any]]:
    """The trials that are settled: they came to an end, with a score or without, or will not run; the list may name others."""
    return [trial for trial in summary["trials"] if trial["status"] != "waiting"]


def trained(summary: Summary) -> list[Mapping[str, Any]]:
    """The trials that were trained, however far; the list may name others, and a race does without many."""
    return [trial for trial in summary["trials"] if trial["cost"]]


def seeds(trials: Sequence[Mapping[str, Any]]) -> str:
    """How many a setting has, in words; a race gives more to few."""
    of = Counter((trial["tap"], *trial["trainable_stages"], way(trial), trial["learning_rate"]) for trial in trials)
    fewest, most = min(of.values()), max(of.values())
    return f"{fewest} to {most} seeds" if fewest < most else words.number(most, "seed")


def recommended(summary: Summary) -> Mapping[str, Any] | None:
    """The curve row that is recommended, or None."""
    choice = summary["recommendation"]
    return None if choice is None else summary["depth_curve"][choice["row"]]


def facts(summary: Summary) -> list[tuple[str, str]]:
    """The study in a few terms."""
    dataset, run = summary["dataset"], summary["run"]
    images = sum(sum(counts.values()) for counts in dataset["counts"].values())
    grouped = words.count(images, sum(dataset["groups"].values()) or None).partition(" in ")[2]
    return [
        ("Backbone", summary["backbone"]),
        ("Stages", f"{len(summary['stages'])}"),
        ("Data", dataset["name"]),
        ("Images", f"{images:,}" + f" in {grouped}" * bool(grouped) + f" at {dataset['image_size']} px"),
        ("Classes", f"{len(dataset['classes']):,}"),
        ("Trials", f"{len(ended(summary)):,}"),
        ("Took", words.duration(run["seconds"])),
    ]


COSTS = (
    ("seconds", "Time of a trial", words.duration),
    ("examples_per_second", "Images/s", words.quantity),
    ("flops_per_example", "FLOPs per image", words.quantity),
    ("optimizer_bytes", "Optimizer state", lambda value: words.quantity(value, "B")),
    ("trainable_parameters", "Trainable parameters", words.quantity),
    ("compile_seconds", "Compilation", words.duration),
)


def cost_rows(summary: Summary) -> list[dict[str, Any]]:
    """One row a plan: each cost in words, and as percent of the column's largest."""
    rows, best = curve(summary), recommended(summary)
    largest = {key: max((row["cost"].get(key) or 0 for row in rows), default=0) for key, _, _ in COSTS}
    return [
        {
            "name": name(row, summary),
            "chosen": row is best,
            "cells": [
                {
                    "text": "–" if row["cost"].get(key) is None else tell(row["cost"][key]),
                    "key": row["cost"].get(key),
                    "percent": 100 * (row["cost"].get(key) or 0) / (largest[key] or 1),
                }
                for key, _, tell in COSTS
            ],
        }
        for row in rows
    ]


def size(summary: Summary, split: str) -> str:
    """`539 test images in 210 groups`: what a figure of that split rests on."""
    dataset = summary["dataset"]
    kind = {"val": "validation"}.get(split, split)
    return words.count(sum(dataset["counts"].get(split, {}).values()), dataset["groups"].get(split), kind)


def split_rows(summary: Summary) -> dict[str, Any]:
    """Images by class and split, with totals and groups; a cell is (images, groups), groups None where they are not known."""
    dataset = summary["dataset"]
    splits = list(dataset["counts"])
    of_class = dataset.get("groups_of_class", {})
    # Said once in a sentence where it holds for every image.
    alone = of_class == dataset["counts"]
    rows = [
        (
            label,
            [(dataset["counts"][split].get(label, 0), None if alone else of_class.get(split, {}).get(label)) for split in splits],
        )
        for label in dataset["classes"]
    ]
    totals = [sum(dataset["counts"][split].values()) for split in splits]
    largest = max((images for _, cells in rows for images, _ in cells), default=0) or 1
    return {
        "splits": splits,
        "rows": rows,
        "totals": totals,
        "groups": [dataset["groups"].get(split) for split in splits],
        "alone": alone,
        "largest": largest,
    }


def left_out(summary: Summary) -> dict[str, Any]:
    """What was not used, the first 200 by name: all of it, which `images`, and how many other `files`."""
    rows = summary["dataset"]["left_out"]
    images = images_left_out(summary["dataset"])
    return _first(rows) | {"images": len(images), "files": len(rows) - len(images)}


def images_left_out(dataset: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of `left_out` that are images: a README beside them is none."""
    return [row for row in dataset["left_out"] if row.get("is_image", True)]


def excluded(dataset: Mapping[str, Any]) -> list[tuple[str, int]]:
    """(reason, images) of what a policy left out before anything was drawn, as far as the notes of the record count it."""
    counted = [note["excluded"] for note in dataset.get("notes") or [] if note.get("excluded")]
    return [(why, images) for why, images in counted]


def notes(summary: Summary) -> list[dict[str, Any]]:
    """What was found in the data and what was done about it; of each note the first 200 images by name."""
    return [
        {"found": note["found"], "done": note["done"], "ids": _first(note["ids"])} for note in summary["dataset"].get("notes") or []
    ]


def _first(rows: Sequence[Any]) -> dict[str, Any]:
    return {"count": len(rows), "rows": rows[:_SHOWN], "hidden": max(0, len(rows) - _SHOWN)}


def groups_are_whole(summary: Summary) -> bool | None:
    """Whether the audit found every group on one side of the split; None where it did not look."""
    return next((row["passed"] for row in summary["audit"] if row["check"] == _WHOLE_GROUPS), None)


def not_profiled(summary: Summary) -> list[tuple[str, list[str]]]:
    """Why stages have no row in the profile, and which stages."""
    found: dict[str, list[str]] = {}
    for row in summary["profile"]:
        if row["mean_shift"] is None:
            found.setdefault(row["reason"], []).append(row["stage"])
    return list(found.items())


def trial_rows(summary: Summary, names: Sequence[str]) -> list[dict[str, Any]]:
    """The trials table; scores: (test, validation) a metric, a dash where the trial has none."""
    rows = []
    for trial in ended(summary):
        rows.append(
            {
                "id": trial["id"],
                "name": name(trial, summary),
                "depth": trial["freeze_depth"],
                "rate": trial["learning_rate"],
                "seed": trial["seed"],
                "status": trial["status"],
                "note": trial["note"],
                "scores": [
                    [words.score(trial[split].get(metric)) if trial[split] else "–" for split in ("test", "val")]
                    for metric in names
                ],
                "seconds": (trial["cost"] or {}).get("seconds"),
                "speed": (trial["cost"] or {}).get("examples_per_second"),
            }
        )
    return rows


def flat(value: Mapping[str, Any], head: str = "") -> list[tuple[str, str]]:
    """A nested config as dotted keys, in the words of the command line."""
    rows = []
    for key, item in value.items():
        if isinstance(item, Mapping):
            rows += flat(item, f"{head}{key}.")
        else:
            rows.append((f"{head}{key}", ",".join(str(part) for part in item) if isinstance(item, list) else str(item)))
    return rows


def audit_value(value: float | None) -> str:
    """A check's number: whole numbers with separators, others with four decimals."""
    return "–" if value is None else f"{value:,.0f}" if value == int(value) else f"{value:.4f}"
