"""How the data differ from the source at each stage: inputs of batch norm, or the stage's output."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from fteng.probe.features import Moments
from fteng.probe.source_profile import Source


def profile(stages: Sequence[str], source: Source, seen: Moments) -> list[dict[str, Any]]:
    """One row a stage: stage, mean_shift, log_variance_ratio, channels, source, reason.

    Over every batch-norm input of the stage where the source is batch norm, over its output where it is a file.
    mean_shift: mean over channels of |target mean - source mean| / source standard deviation. log_variance_ratio: mean of
    |ln(target variance / source variance)|. Channels that are constant in source or target (variance below 1e-8 of the layer's
    mean variance) are left out and not counted. None where there is no source or no channel is left, and `reason` says which.
    """
    target = seen.inputs if source.kind == "batch_norm" else seen.outputs
    rows = []
    for stage, old, new in zip(stages, source.moments, target, strict=True):
        known = _layers(old)
        row: dict[str, Any] = {"stage": stage, "mean_shift": None, "log_variance_ratio": None, "channels": 0}
        row |= {"source": source.kind, "reason": ""}
        if known:
            row |= _compared(known, _layers(new))
        else:
            row["reason"] = _ABSENT[source.kind]
        rows.append(row)
    return rows


_ABSENT = {
    "batch_norm": "this stage has no batch norm",
    "file": "the source profile has nothing of this stage",
    "none": "there is no source profile",
}


def _compared(source: Sequence[dict[str, np.ndarray]], target: Sequence[dict[str, np.ndarray]]) -> dict[str, Any]:
    shifts, ratios = [], []
    for layer, other in zip(source, target, strict=True):
        alive = (layer["var"] > 1e-8 * layer["var"].mean()) & (other["var"] > 1e-8 * other["var"].mean())
        std = np.sqrt(layer["var"][alive])
        shifts.append(np.abs(other["mean"][alive] - layer["mean"][alive]) / std)
        ratios.append(np.abs(np.log(other["var"][alive] / layer["var"][alive])))
    channels = sum(len(part) for part in shifts)
    if not channels:
        return {"reason": "no channel varies in both the source and the data"}
    mean_shift, log_variance_ratio = (float(np.concatenate(parts).mean()) for parts in (shifts, ratios))
    return {"mean_shift": mean_shift, "log_variance_ratio": log_variance_ratio, "channels": channels}


def _layers(tree: Any) -> list[dict[str, np.ndarray]]:
    layers = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, dict) and "mean" in node)
    return [{name: np.asarray(values, np.float64) for name, values in layer.items()} for layer in layers]
