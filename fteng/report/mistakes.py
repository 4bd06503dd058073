"""Where the recommended plan goes wrong: confusion, the mistakes it is surest of, and where it looked in them."""

from collections.abc import Mapping
from typing import Any

from fteng.report import words

Summary = Mapping[str, Any]
# A table with more columns is read by nobody.
_MOST_CLASSES = 20
METHODS = {
    "cam": "The map is exact: it is each place’s share in the logit, since the head reads the average of these places (class"
    " activation map, Zhou et al. 2016).",
    "grad_cam": "The head does not read places, so the map is made of gradients at the last stage that has any (Grad-CAM,"
    " Selvaraju et al. 2017): an approximation.",
    "gradient_input": "For a network of tokens the map is, patch by patch, the gradient of the logit times the embedded patch"
    " (gradient times input, Shrikumar et al. 2017): an approximation to first order, noisier than a convolutional network’s.",
}


def finding(summary: Summary) -> str:
    """How many are wrong, and of which model."""
    wrong = summary["mistakes"]
    several = summary.get("final") and summary["final"]["seeds"] > 1
    if not wrong["count"]:
        return f"None of {words.number(wrong['images'], 'test image')} is answered wrong{' by the first seed' * bool(several)}."
    share = 100 * wrong["count"] / wrong["images"]
    return (
        f"{wrong['count']:,} of {words.number(wrong['images'], 'test image')} ({share:.1f} %) are answered wrong"
        f"{' by the first seed' * bool(several)}. A confident mistake is worth a look: it may be a wrong label,"
        f" {_also(summary)}, or a kind of image that training lacked."
    )


def _also(summary: Summary) -> str:
    skin = summary["run"]["config"].get("data", {}).get("source") == "isic"
    return "a second lesion, a ruler or a hair" if skin else "a second thing in the picture"


def cards(summary: Summary) -> list[dict[str, Any]]:
    """The mistakes the network was surest of, with their pictures where there are any."""
    found = summary["explained"]["saliency"]
    pictures = [{}] * len(summary["mistakes"]["rows"]) if found is None else found["mistakes"]
    return [
        {**row, "sure": f"{row['probability']:.3f}", "of_truth": f"{row['probability_of_truth']:.2g}"} | {"picture": dict(picture)}
        for row, picture in zip(summary["mistakes"]["rows"], pictures, strict=True)
    ]


def about(summary: Summary) -> str:
    """What the colours over the pictures mean, or why there are none."""
    explained = summary["explained"]
    if explained["saliency"] is None:
        if explained["reason"]:
            return f"No pictures: {explained['reason']}."
        return "No pictures: judge.pictures keeps them out of the page."
    found = explained["saliency"]
    down, across = found["places"]
    return (
        f"Colour shows where the network saw evidence for a class over the mean of all classes, at {found['stage']}, which has"
        f" {down} × {across} places; strength is on one scale within an image. {METHODS[found['method']]}"
        " A map says where, not why, and a place outside the object is a reason to distrust the answer."
    )


def confusion(summary: Summary) -> dict[str, Any] | None:
    """Rows of true classes with counts and the share of the row; None with too many classes to read."""
    counts, classes = summary["confusion"], summary["dataset"]["classes"]
    if len(classes) > _MOST_CLASSES:
        return None
    rows = []
    for index, (name, cells) in enumerate(zip(classes, counts, strict=True)):
        total = sum(cells)
        shares = [100 * cell / total if total else 0.0 for cell in cells]
        rows.append(
            {
                "name": name,
                "cells": [
                    (f"{cell:,}", share, place == index) for place, (cell, share) in enumerate(zip(cells, shares, strict=True))
                ],
                "recall": f"{shares[index]:.1f} %" if total else words.UNDEFINED,
            }
        )
    return {"classes": classes, "rows": rows}


def confused(summary: Summary) -> list[tuple[str, str, int, int]]:
    """The pairs most often taken for each other, where the whole table is too large: (truth, answer, images, of)."""
    counts, classes = summary["confusion"], summary["dataset"]["classes"]
    pairs = [
        (classes[truth], classes[answer], cell, sum(cells))
        for truth, cells in enumerate(counts)
        for answer, cell in enumerate(cells)
        if cell and truth != answer
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:_MOST_CLASSES]
