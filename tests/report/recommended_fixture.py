"""What a made-up study says of its recommended plan on the test images, beside its place on the depth curve."""

from collections.abc import Sequence
from typing import Any


def make_final(scores: dict[str, Any], seeds: int) -> dict[str, Any]:
    more = {"average_precision": 0.913, "brier": 0.197, "ece": 0.061}
    labels = {"average_precision": "average precision", "brier": "Brier score", "ece": "expected calibration error"}
    labels |= {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "auc": "ROC-AUC", "log_loss": "log loss"}
    scores = scores | {name: {"value": value, "low": value - 0.02, "high": value + 0.02} for name, value in more.items()}
    return {"images": 539, "groups": 360, "seeds": seeds, "metrics": scores, "labels": labels}


def make_calibration() -> dict[str, Any]:
    sizes = [36, 36, 36, 36, 36, 36, 35, 37, 36, 36, 36, 36, 36, 36, 35]
    forecast = [0.44 + 0.56 * (index / 14) ** 0.6 for index in range(15)]
    return {
        "temperature": 1.43,
        "images": 539,
        "before": {"ece": 0.061, "log_loss": 0.294, "brier": 0.197},
        "after": {"ece": 0.022, "log_loss": 0.261, "brier": 0.189},
        "bins_before": [{"images": n, "forecast": p, "observed": p - 0.09 * (1 - p)} for n, p in zip(sizes, forecast, strict=True)],
        "bins_after": [
            {"images": n, "forecast": p - 0.03, "observed": p - 0.04 + 0.01 * (index % 3)}
            for index, (n, p) in enumerate(zip(sizes, forecast, strict=True))
        ],
    }


def make_subgroups() -> list[dict[str, Any]]:
    return [_site(), _age()]


def _level(level: str, classes: list[int], value: float | None, half: float | None = None, note: str = "") -> dict[str, Any]:
    bounds = {"low": None, "high": None} if value is None or half is None else {"low": value - half, "high": value + half}
    return (
        {"level": level, "images": sum(classes), "groups": sum(classes) // 2, "classes": classes, "value": value}
        | bounds
        | {"note": note}
    )


def _site() -> dict[str, Any]:
    rows = [
        _level("mill A", [160, 80, 61], 0.871, 0.04),
        _level("mill B", [100, 50, 52], 0.842, 0.055),
        _level("not stated", [10, 5, 21], 0.79, None, "too few groups for an interval"),
    ]
    return {"attribute": "site", "metric": "balanced_accuracy", "rows": rows}


def _age() -> dict[str, Any]:
    rows = [
        _level("under 40", [200, 130, 134], 0.866, 0.034),
        _level("60 and over", [70, 5, 0], None, note="balanced accuracy is undefined: a class has no image"),
    ]
    return {"attribute": "age", "metric": "balanced_accuracy", "rows": rows}


def make_curves(classes: Sequence[str], seeds: int) -> dict[str, Any]:
    """Of a network whose sensitivity is a power of the false positive rate, class by class a little better."""
    rows: list[dict[str, Any]] = []
    points = [(kept, level) for kept in ("specificity", "sensitivity") for level in (0.9, 0.95)]
    for index, name in enumerate([None, *classes]):
        false = [*(k / 200 for k in range(21)), *(0.12 + 0.02 * k for k in range(45))]
        recalls = [0.02 * k for k in range(1, 51)]
        found = [x ** (0.2 - 0.03 * index) for x in false]
        precise = [1 - 0.5 * x**4 for x in recalls]
        bands = {
            curve: {"at": at, "value": value, "low": [0.9 * y for y in value], "high": [0.1 + 0.9 * y for y in value]}
            for curve, at, value in (("roc", false, found), ("precision", recalls, precise))
        }
        some = [
            {"keeps": kept, "level": level, "best": {"value": 0.71, "low": 0.6, "high": 0.8}, "threshold": 0.25}
            | {"sensitivity": {"value": 0.68, "low": 0.57, "high": 0.78}, "specificity": {"value": 0.88, "low": 0.8, "high": 0.93}}
            for kept, level in points
        ]
        share = None if name is None else 1 / len(classes)
        rows.append({"positive": name, "share": share, "points": some if name is not None else []} | bands)
    return {"rows": rows, "resamples": 500, "seeds": seeds, "classes": len(classes)}


def make_mistakes(classes: Sequence[str]) -> dict[str, Any]:
    rows = [
        {
            "id": f"local/roll_{index:04}.jpg",
            "group": f"roll {index}",
            "truth": classes[1],
            "answer": classes[index % 2 * 2],
            "probability": 0.99 - 0.02 * index,
            "probability_of_truth": 0.004 * (index + 1),
        }
        for index in range(6)
    ]
    return {"count": 71, "images": 539, "rows": rows}
