"""How the data differ from the source at each stage, from the statistics that batch norm carries in the checkpoint."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np


def profile(stages: Sequence[str], source: Sequence[Any], target: Sequence[Any]) -> list[dict[str, Any]]:
    """One row a stage: stage, mean_shift, log_variance_ratio, channels, over every batch-norm input of the stage.

    mean_shift: mean over channels of |target mean - source mean| / source standard deviation. log_variance_ratio: mean of
    |ln(target variance / source variance)|. Channels that are constant in source or target (variance below 1e-8 of the layer's
    mean variance) are left out and not counted. None where a stage has no batch norm or no channel is left.
    source, target: one tree a stage with `mean` and `var` (channels,) a layer.
    """
    rows = []
    for stage, old, new in zip(stages, source, target, strict=True):
        shifts, ratios = [], []
        for layer, other in zip(_layers(old), _layers(new), strict=True):
            alive = (layer["var"] > 1e-8 * layer["var"].mean()) & (other["var"] > 1e-8 * other["var"].mean())
            std = np.sqrt(layer["var"][alive])
            shifts.append(np.abs(other["mean"][alive] - layer["mean"][alive]) / std)
            ratios.append(np.abs(np.log(other["var"][alive] / layer["var"][alive])))
        channels = sum(len(part) for part in shifts)
        row = {"stage": stage, "mean_shift": None, "log_variance_ratio": None, "channels": channels}
        if channels:
            row["mean_shift"] = float(np.concatenate(shifts).mean())
            row["log_variance_ratio"] = float(np.concatenate(ratios).mean())
        rows.append(row)
    return rows


def _layers(tree: Any) -> list[dict[str, np.ndarray]]:
    layers = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, dict) and "mean" in node)
    return [{name: np.asarray(values, np.float64) for name, values in layer.items()} for layer in layers]
