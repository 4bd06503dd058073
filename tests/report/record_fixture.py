"""What a made-up study of textile records beside its scores: its data, its audit, how it was run."""

from collections.abc import Sequence
from typing import Any

from fteng.config import Config, to_dict


def make_dataset() -> dict[str, Any]:
    return {
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
        "left_out": [{"id": "global/defect_0113.jpg", "reason": "cannot be read: image file is truncated (7 bytes not processed)"}],
        "digest": "9f2c1a7be0c94d37a1c55de0b8f3bb5e4ad1e6a0c6e57e7bb20a5b5e7f3d0c11",
    }


def make_audit() -> list[dict[str, Any]]:
    return [
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
            "check": "no compilation for a trial of a known shape",
            "passed": True,
            "value": 0,
            "detail": "0 programs compiled",
        },
        {
            "check": "no group stands on both sides of a split",
            "passed": True,
            "value": 0,
            "detail": "1,200 groups of 1,799 images",
        },
    ]


def make_run(depths: Sequence[int], rates: Sequence[float], seeds: Sequence[int]) -> dict[str, Any]:
    return {
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
        "seconds_by_phase": {"data": 21.4, "probes": 63.2, "starts": 2.1, "prefix": 9.7, "compile": 21.0, "trials": 1274.0},
    }


def _config(depths: Sequence[int], rates: Sequence[float], seeds: Sequence[int]) -> dict[str, Any]:
    config = to_dict(Config(experiment="Woven textile"))
    config["data"] |= {"source": "folder", "path": "data/textile", "image_size": 240}
    config["sweep"] |= {"freeze_depths": [str(d) for d in depths], "learning_rates": list(rates), "seeds": list(seeds)}
    config["train"] |= {"epochs": 5}
    return config
