"""A made-up study of EfficientNet-Lite0 on textile, shaped like the real thing: what a page is tested and looked at with."""

import random
from collections.abc import Sequence
from typing import Any

from fteng.trials import Variant
from tests.report.recommended_fixture import make_calibration, make_curves, make_final, make_mistakes, make_subgroups
from tests.report.record_fixture import make_audit, make_dataset, make_run

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
JUDGED = ("balanced_accuracy",)
# Of the recommended plan: parts of the summary, and the sections of the page that show them.
CHOSEN = ("final", "curves", "calibration", "mistakes", "subgroups")
_PARAMETERS = (
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
# Of a stage that is exactly as it was.
_STILL = {"relative": 0.0, "cka": 1.0}
# A picture of one black point; browsers take it whatever it is called.
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABh6FO1AAAAABJRU5ErkJggg=="
_SHAPE = {0: 0.71, 4: 0.76, 8: 0.81, 12: 0.86, 16: 0.80, 18: 0.66}


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
        "weights": {
            "source": "package",
            "batch_norm": True,
            "sha256": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        },
        "experiment": "Woven textile: does a fault show in the first stages of an ImageNet network, or in the last?",
        "dataset": make_dataset(),
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
        "audit": make_audit(),
        "run": make_run(depths, rates, seeds),
        "chance": {"accuracy": 270 / 539, "balanced_accuracy": 1 / 3, "auc": 0.5, "log_loss": 1.04},
    }
    for index, stage in enumerate(STAGES):
        level = 0.50 + 0.17 * (1 - ((index - 11) / 11) ** 2) + rng.uniform(-0.012, 0.012)
        summary["probes"].append(
            {
                "tap": stage,
                "stage_index": index,
                "l2": 0.01,
                "left_out_log_loss": round(2.2 * (1 - level), 4),
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
                        "variant": Variant()._asdict(),
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
    # One probe is a way to use the network, beside the trials.
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
        "groups": 80,
        "too_few": False,
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
    summary |= {"final": make_final(_intervals(_quality(best), 0.031), len(seeds)), "calibration": make_calibration()}
    summary |= {"subgroups": make_subgroups()}
    classes = summary["dataset"]["classes"]
    summary |= {"curves": make_curves(classes, len(seeds)), "mistakes": make_mistakes(classes)}
    summary["confusion"] = [[240, 20, 10], [25, 106, 4], [8, 4, 122]]
    summary["explained"] = {"saliency": None, "changes": None, "reason": "the networks were not looked at"}
    for row in [*summary["probes"], *summary["trials"], *summary["depth_curve"]]:
        row |= {split: _only(row[split], metrics) for split in ("val", "test")}
    return summary


def make_unfinished() -> dict[str, Any]:
    """A summary of a study that has its probes and no trial yet."""
    summary = make_summary(metrics=JUDGED)
    for trial in summary["trials"]:
        trial |= {"status": "waiting", "note": "", "val": {}, "test": {}, "cost": None}
    nothing = {"depth_curve": [], "audit": [], "recommendation": None, "final": None, "calibration": None, "subgroups": []}
    return summary | nothing | dict.fromkeys(("curves", "mistakes", "confusion"))


def make_without_curves() -> dict[str, Any]:
    """A summary whose page draws no figure but the calibration, so that it is quick to make."""
    summary = make_summary(metrics=JUDGED)
    return make_unfinished() | {"probes": [], "profile": []} | {name: summary[name] for name in (*CHOSEN, "confusion")}


def explain(summary: dict[str, Any]) -> dict[str, Any]:
    """The same study after its networks were looked at: pictures of its mistakes, and what tuning changed."""
    tuned = [row for row in summary["depth_curve"] if row["trials"]]
    changes = [
        {
            "trial": row["trials"][0],
            "stages": [
                {"stage": stage, "trained": stage in row["trainable_stages"]}
                | ({"relative": 0.01 + 0.002 * k, "cka": 0.99 - 0.02 * k} if stage in row["trainable_stages"] else _STILL)
                for k, stage in enumerate(summary["stages"])
            ],
        }
        for row in tuned
    ]
    pictures = [{"jpeg": _PIXEL, "answer": _PIXEL, "truth": "" if index else _PIXEL} for index in range(6)]
    saliency = {"method": "cam", "stage": summary["stages"][-1], "places": [8, 8], "mistakes": pictures}
    found = {"saliency": saliency, "changes": {"images": 128, "trials": changes}, "reason": ""}
    return summary | {"explained": found}


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
    trainable = sum(_PARAMETERS[depth:]) + 3843
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
