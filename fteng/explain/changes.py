"""What tuning changed in each stage: its numbers, and what it says of the images."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32, Int, UInt8

from fteng.explain.look import Look, all_stages
from fteng.model import Model
from fteng.similarity.distances import debiased_cka
from fteng.undefined import UndefinedError

Tree = Any


def change(
    model: Model,
    look: Look,
    before: Sequence[Float32[np.ndarray, "n _"]],
    images: UInt8[np.ndarray, "all side side 3"],
    rows: Int[np.ndarray, "n"],
) -> list[dict[str, Any]]:
    """One row a stage up to the tap: `relative` (see `relative_change`) and `cka` (see `alignment`), None where undefined.

    before: features of these rows of the images in the network that the trial started from.
    """
    after = look.features(*all_stages(model), images, rows)
    trained = set(model.plan.trainable_stages)
    return [
        {
            "stage": stage,
            "trained": stage in trained,
            "relative": relative_change(model.source.params[index], model.parameters.stages[index]),
            "cka": alignment(before[index], after[index]),
        }
        for index, stage in enumerate(model.plan.stages)
    ]


def relative_change(before: Tree, after: Tree) -> float | None:
    """|W - W0| / |W0| over all parameters of a stage, Euclidean; exactly 0 where no bit moved, None where W0 is 0 or empty."""
    pairs = list(zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))
    moved, norm = 0.0, 0.0
    for one, other in pairs:
        old, new = np.asarray(one, np.float64), np.asarray(other, np.float64)
        moved += float(((new - old) ** 2).sum())
        norm += float((old**2).sum())
    return float(np.sqrt(moved / norm)) if norm > 0 else None


def alignment(before: Float32[np.ndarray, "n c"], after: Float32[np.ndarray, "n c"]) -> float | None:
    """Linear CKA (Kornblith et al. 2019), debiased, since images are fewer than channels, and cut to [0, 1]; exactly 1 where every
    bit is the same, None where one side shows no structure or is not finite."""
    if np.array_equal(before, after):
        return 1.0
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        return None
    kernels = [values @ values.T for values in (before.astype(np.float64), after.astype(np.float64))]
    try:
        return float(np.clip(debiased_cka(*kernels), 0.0, 1.0))
    except UndefinedError:
        return None
