"""A made-up study of EfficientNet-Lite0 on textile, shaped like the real thing: what a page is tested and looked at with."""

import random
from collections.abc import Sequence
from typing import Any

from fteng.config import Config, to_dict

STAGES = ("stem", *(f"block{index}" for index in range(1, 17)), "conv_head")
GROUPS = {
    "stage0": ["stem"],
    "stage1": ["block1"],
    "stage2": ["block2", "block3"],
    "stage3": ["block4", "block5"],
    "stage4": ["block6", "block7", "block8"],
    "stage5": ["block9", "block10", "block11"],
    "stage6": ["block12", "block13", "block14", "block15"],
    "stage7": ["block16"],
    "top": ["conv_head"],
}
METRICS = ("accuracy", "balanced_accuracy", "auc", "log_loss")
PARAMETERS = (
    928,
    1448,
    6004,
    10710,
    15350,
    31290,
    37130,
    102900,
    102900,
    126004,
    208572,
    208572,
    262492,
    587952,
    587952,
    587952,
    717232,
    409600,
)
# A name nobody can break, at the end: it must not push the page aside.
EVIL = "<script>alert('x')</script>\"&{{ 7*191 }}\u2028]]>" + "W" * 40
# Of a stage that is exactly as it was.
STILL = {"relative": 0.0, "cka": 1.0}
# A picture of one black point; browsers take it whatever it is called.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABh6FO1AAAAABJRU5ErkJggg=="
_SHAPE = {0: 0.71, 4: 0.76, 8: 0.81, 12: 0.86, 16: 0.80, 18: 0.66}


def _quality(depth: int) -> float:
    near = min(_SHAPE, key=lambda known: abs(known - depth))
    return _SHAPE[near] - 0.01 * abs(near - depth)


def _scores(level: float) -> dict[str, float | None]:
    return {
        "accuracy": level + 0.012,
        "balanced_accuracy": level,
        "auc": level + (1 - level) * 0.6,
        "log_loss": 2.1 * (1 - level),
    }


def _only(scores: dict[str, Any], metrics: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in scores.items() if name in metrics}


def _intervals(level: float, half: float) -> dict[str, dict[str, float | None]]:
    scores = _scores(level)
    return {
        name: {"value": value, "low": value - half, "high": value + half} for name, value in scores.items() if value is not None
    }


def _cost(depth: int, rng: random.Random) -> dict[str, float]:
    trainable = sum(PARAMETERS[depth:]) + 3843
    share = 1 - depth / len(STAGES)
    seconds = 4.0 + 118 * share * rng.uniform(0.96, 1.05)
    return {
        "flops_per_example": 0.8e9 + 1.62e9 * share,
        "seconds": seconds,
        "examples_per_second": 6000 / seconds,
        "optimizer_bytes": 8 * trainable + 4,
        "trainable_parameters": trainable,
        "compile_seconds": 0.1 + 4.1 * share,
    }


def _final(depth: int, seeds: int) -> dict[str, Any]:
    more = {"average_precision": 0.913, "brier": 0.197, "ece": 0.061}
    labels = {"average_precision": "average precision", "brier": "Brier score", "ece": "expected calibration error"}
    labels |= {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "auc": "ROC-AUC", "log_loss": "log loss"}
    scores = _intervals(_quality(depth), 0.031)
    scores |= {name: {"value": value, "low": value - 0.02, "high": value + 0.02} for name, value in more.items()}
    return {"images": 539, "groups": 360, "seeds": seeds, "metrics": scores, "labels": labels}


def _calibration() -> dict[str, Any]:
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
        _level("mill C", [0, 0, 0], None, note="no image"),
        _level("not stated", [10, 5, 21], 0.79, None, "too few groups for an interval"),
    ]
    return {"attribute": "site", "metric": "balanced_accuracy", "rows": rows}


def _age() -> dict[str, Any]:
    rows = [
        _level("under 40", [200, 130, 134], 0.866, 0.034),
        _level("60 and over", [70, 5, 0], None, note="balanced accuracy is undefined: a class has no image"),
    ]
    return {"attribute": "age", "metric": "balanced_accuracy", "rows": rows}


def _config(depths: Sequence[int], rates: Sequence[float], seeds: Sequence[int]) -> dict[str, Any]:
    config = to_dict(Config(experiment="Woven textile"))
    config["data"] |= {"source": "folder", "path": "data/textile", "image_size": 240}
    config["sweep"] |= {"freeze_depths": [str(d) for d in depths], "learning_rates": list(rates), "seeds": list(seeds)}
    config["train"] |= {"epochs": 5}
    return config


def _curves(classes: Sequence[str], seeds: int) -> dict[str, Any]:
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


def _mistakes(classes: Sequence[str]) -> dict[str, Any]:
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


def explain(summary: dict[str, Any]) -> dict[str, Any]:
    """The same study after its networks were looked at: pictures of its mistakes, and what tuning changed."""
    tuned = [row for row in summary["depth_curve"] if row["trials"]]
    changes = [
        {
            "trial": row["trials"][0],
            "stages": [
                {"stage": stage, "trained": stage in row["trainable_stages"]}
                | ({"relative": 0.01 + 0.002 * k, "cka": 0.99 - 0.02 * k} if stage in row["trainable_stages"] else STILL)
                for k, stage in enumerate(summary["stages"])
            ],
        }
        for row in tuned
    ]
    pictures = [{"jpeg": PIXEL, "answer": PIXEL, "truth": "" if index else PIXEL} for index in range(6)]
    saliency = {"method": "cam", "stage": summary["stages"][-1], "places": [8, 8], "mistakes": pictures}
    found = {"saliency": saliency, "changes": {"images": 128, "trials": changes}, "reason": ""}
    return summary | {"explained": found}


def make_summary(
    depths: Sequence[int] = (0, 4, 8, 12, 16, 18),
    rates: Sequence[float] = (1e-3, 3e-4),
    seeds: Sequence[int] = (0, 1),
    metrics: Sequence[str] = METRICS,
) -> dict[str, Any]:
    """A whole study; the third trial has diverged when there are that many."""
    rng = random.Random(0)
    summary: dict[str, Any] = {
        "backbone": "efficientnet_lite0",
        "weights": {"source": "package", "sha256": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"},
        "experiment": "Woven textile: does a fault show in the first stages of an ImageNet network, or in the last?",
        "dataset": {
            "name": "textile",
            "classes": ["nominal", "local", "global"],
            "image_size": 240,
            "counts": {
                "train": {"nominal": 450, "local": 225, "global": 225},
                "val": {"nominal": 180, "local": 90, "global": 90},
                "test": {"nominal": 270, "local": 135, "global": 134},
            },
            "groups": {"train": 600, "val": 240, "test": 360},
            "groups_of_class": {
                "train": {"nominal": 300, "local": 150, "global": 150},
                "val": {"nominal": 120, "local": 60, "global": 60},
                "test": {"nominal": 180, "local": 90, "global": 90},
            },
            "notes": [
                {
                    "found": "pairs of near-identical images",
                    "done": "each pair forms one group",
                    "ids": [f"local/roll_{index:04}.jpg" for index in range(14)],
                },
                {"found": "41 images without a roll number", "done": "each is its own group", "ids": []},
            ],
            "left_out": [
                {"id": "global/defect_0113.jpg", "reason": "cannot be read: image file is truncated (7 bytes not processed)"}
            ],
            "digest": "9f2c1a7be0c94d37a1c55de0b8f3bb5e4ad1e6a0c6e57e7bb20a5b5e7f3d0c11",
        },
        "stages": list(STAGES),
        "groups": GROUPS,
        "source_profile": {"kind": "batch_norm"},
        "profile": [
            {
                "stage": stage,
                "mean_shift": 0.22 + 0.9 / (1 + 0.3 * index) * rng.uniform(0.7, 1.3),
                "log_variance_ratio": 0.3 + 0.09 * index * rng.uniform(0.7, 1.3),
                "channels": 16 * (index + 2),
                "source": "batch_norm",
                "reason": "",
            }
            for index, stage in enumerate(STAGES)
        ],
        "probes": [],
        "trials": [],
        "depth_curve": [],
        "judge": {"metric": "balanced_accuracy", "margin": 0.01, "confidence": 0.95, "resamples": 2000},
        "audit": [
            {
                "check": "frozen parameters are bit-equal",
                "passed": True,
                "value": 0,
                "detail": "24 of 24 trials; 3,108 arrays compared",
            },
            {"check": "statistics of kept batch norm are bit-equal", "passed": True, "value": 0, "detail": "24 of 24 trials"},
            {
                "check": "optimizer state is of trainable leaves only",
                "passed": True,
                "value": 53988332,
                "detail": "largest: 53,988,332 bytes for 6,748,541 trainable parameters",
            },
            {
                "check": "FLOPs of the compiled step are forward + backward of the suffix",
                "passed": True,
                "value": 1.0213,
                "detail": "largest ratio of 6 programs: freeze depth 16",
            },
            {
                "check": "trials of one shape share one compiled step",
                "passed": True,
                "value": 6,
                "detail": "6 shapes, 6 compilations",
            },
            {
                "check": "no group stands on both sides of a split",
                "passed": True,
                "value": 0,
                "detail": "1,200 groups of 1,799 images",
            },
        ],
        "run": {
            "command": "python -m fteng.main --config=configs/textile.py --workdir=runs/textile --config.sweep.seeds=0,1",
            "versions": {
                "fteng": "0.1.0",
                "python": "3.11.2",
                "jax": "0.10.2",
                "flax": "0.12.8",
                "optax": "0.2.8",
                "numpy": "2.3.4",
            },
            "device": "TFRT_CPU_0 (cpu)",
            "cpu": "Intel(R) Xeon(R) Platinum 8481C, 2 cores",
            "git": "3f9e2ab",
            "started": "2025-11-24T10:31:07+00:00",
            "seconds": 1391.4,
            "peak_bytes": 3_100_000_000,
            "predicted_bytes": 1_800_000_000,
            "config": _config(depths, rates, seeds),
            "seconds_by_phase": {"data": 21.4, "probes": 63.2, "trials": 1294.0, "analysis": 9.1, "report": 3.7},
        },
        "chance": {"accuracy": 270 / 539, "balanced_accuracy": 1 / 3, "auc": 0.5, "log_loss": 1.04},
    }
    for index, stage in enumerate(STAGES):
        level = 0.50 + 0.17 * (1 - ((index - 11) / 11) ** 2) + rng.uniform(-0.012, 0.012)
        summary["probes"].append(
            {
                "tap": stage,
                "stage_index": index,
                "l2": 0.01,
                "val": _scores(level + rng.uniform(-0.02, 0.02)),
                "test": _intervals(level, 0.038),
            }
        )
    for depth in depths:
        for rate in rates:
            for seed in seeds:
                level = _quality(depth) - (0.045 if rate != rates[0] else 0) + rng.uniform(-0.02, 0.02)
                lost = len(summary["trials"]) == 2
                summary["trials"].append(
                    {
                        "id": f"depth{depth}-rate{rate:g}-seed{seed}-{rng.getrandbits(40):010x}",
                        "tap": STAGES[-1],
                        "freeze_depth": depth,
                        "trainable_stages": list(STAGES[depth:]),
                        "leaves": "all",
                        "variant": {},
                        "seed": seed,
                        "learning_rate": rate,
                        "status": "diverged" if lost else "done",
                        "note": "the loss was not finite in the epoch that ended at step 28" if lost else "",
                        "val": {} if lost else _scores(level + rng.uniform(-0.015, 0.015)),
                        "test": {} if lost else _scores(level),
                        "cost": _cost(depth, rng),
                    }
                )
        summary["depth_curve"].append(
            {
                "freeze_depth": depth,
                "tap": STAGES[-1],
                "leaves": "all",
                "trainable_stages": list(STAGES[depth:]),
                "label": f"first {depth} stages frozen"
                if depth < len(STAGES)
                else "linear classifier on conv_head, trained by steps",
                "learning_rate": rates[0],
                "seeds": len(seeds),
                "trials": [
                    row["id"] for row in summary["trials"] if (row["freeze_depth"], row["learning_rate"]) == (depth, rates[0])
                ],
                "val": _intervals(_quality(depth) + 0.005, 0.036),
                "test": _intervals(_quality(depth), 0.031),
                "cost": _cost(depth, rng),
            }
        )
    best = max(depths, key=_quality)
    # The best probe is one way to use the network, beside the trials.
    tap = dict(summary["probes"][9])
    summary["depth_curve"].insert(
        0,
        {
            "freeze_depth": 10,
            "tap": tap["tap"],
            "leaves": "all",
            "trainable_stages": [],
            "label": f"linear classifier on {tap['tap']}",
            "learning_rate": None,
            "seeds": 1,
            "trials": [],
            "val": _intervals(tap["val"]["balanced_accuracy"], 0.036),
            "test": tap["test"],
            "cost": {"flops_per_example": 0.5e9, "seconds": 3.1},
        },
    )
    rows = summary["depth_curve"]
    summary["recommendation"] = {
        "row": next(index for index, row in enumerate(rows) if row["freeze_depth"] == best and row["learning_rate"] is not None),
        "freeze_depth": best,
        "tap": STAGES[-1],
        "metric": "balanced_accuracy",
        "reason": f"On the validation images freeze depth {best} scores highest,"
        " and no shallower tuning comes within the margin of 0.01.",
        "alternatives": [
            {
                "freeze_depth": depth,
                "tap": STAGES[-1],
                "leaves": "all",
                "trainable_stages": list(STAGES[depth:]),
                "label": f"first {depth} stages frozen"
                if depth < len(STAGES)
                else "linear classifier on conv_head, trained by steps",
                "score": _quality(depth),
                "difference": _quality(depth) - _quality(best),
                "low": _quality(depth) - _quality(best) - 0.035,
                "high": _quality(depth) - _quality(best) + 0.035,
                "p": min(1.0, 0.0005 + 2 * max(0.0, _quality(depth) - _quality(best) + 0.1) ** 2),
                "verdict": "worse" if _quality(depth) < _quality(best) - 0.045 else "unclear",
            }
            for depth in depths
            if depth != best
        ],
    }
    summary |= {"final": _final(best, len(seeds)), "calibration": _calibration(), "subgroups": [_site(), _age()]}
    classes = summary["dataset"]["classes"]
    summary |= {"curves": _curves(classes, len(seeds)), "mistakes": _mistakes(classes)}
    summary["confusion"] = [[240, 20, 10], [25, 106, 4], [8, 4, 122]]
    summary["explained"] = {"saliency": None, "changes": None, "reason": "the networks were not looked at"}
    for row in [*summary["probes"], *summary["trials"], *summary["depth_curve"]]:
        row |= {split: _only(row[split], metrics) for split in ("val", "test")}
    return summary


def make_hostile() -> dict[str, Any]:
    """A study in which every name from outside tries to be markup, a script or a template."""
    summary = explain(make_summary(depths=(0, 12, 18), seeds=(0,), metrics=("balanced_accuracy",)))
    dataset, pictures = summary["dataset"], summary["explained"]["saliency"]["mistakes"]
    for part in ("counts", "groups_of_class"):
        dataset[part] = {split: {name + EVIL: n for name, n in counts.items()} for split, counts in dataset[part].items()}
    summary["run"]["versions"] = {"jax" + EVIL: EVIL}
    summary["run"]["config"][EVIL] = {EVIL: [EVIL]}
    summary["run"]["seconds_by_phase"] = {EVIL: 1.0}
    summary["groups"] = {EVIL: [EVIL]}
    for part in (
        "backbone",
        "experiment",
        "weights",
        "stages",
        "profile",
        "probes",
        "trials",
        "depth_curve",
        "recommendation",
        "audit",
        "final",
        "subgroups",
        "curves",
        "mistakes",
        "explained",
    ):
        summary[part] = _spoil(summary[part])
    summary["explained"]["saliency"]["mistakes"] = pictures
    summary["source_profile"] = {"kind": "file", "name": EVIL, "about": EVIL, "images": 3, "image_size": 224}
    for part in ("name", "classes", "left_out", "notes", "digest"):
        dataset[part] = _spoil(dataset[part])
    for part in ("command", "device", "cpu", "git", "started"):
        summary["run"][part] += EVIL
    return summary


def _spoil(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _spoil(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_spoil(item, key) for item in value]
    return value + EVIL if isinstance(value, str) and key not in ("metric", "status", "method", "keeps") else value
