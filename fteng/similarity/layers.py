"""Moments a channel as vectors: of the source, of the data, and of parts of the data, stage by stage."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from fteng.undefined import UndefinedError

# A channel that hardly varies, seen from its layer, would be divided by rounding noise.
_DEAD = 1e-8


class Known(NamedTuple):
    """One stage, all its layers in a row, channels that vary in the source and in the data alone.

    parts: of the data, (p, c) each, of equally many images; empty (0, c) where the pass kept none.
    """

    source_mean: Float[np.ndarray, "c"]
    source_var: Float[np.ndarray, "c"]
    mean: Float[np.ndarray, "c"]
    var: Float[np.ndarray, "c"]
    part_means: Float[np.ndarray, "p c"]
    part_vars: Float[np.ndarray, "p c"]


def known_stage(source: Any, target: Any, parts: Sequence[Any], *, absent: str) -> Known:
    """source, target, parts: trees of one stage whose layers are mappings with `mean` and `var` (c,). Raises UndefinedError, where
    the source has no layer with `absent`."""
    old, new, split = _vectors(source), _vectors(target), [_vectors(part) for part in parts]
    if not old:
        raise UndefinedError(absent)
    kept = [
        (one["var"] > _DEAD * one["var"].mean()) & (other["var"] > _DEAD * other["var"].mean())
        for one, other in zip(old, new, strict=True)
    ]
    # In a part that is constant a channel has no variance to compare.
    for part in split:
        kept = [keep & (layer["var"] > 0) for keep, layer in zip(kept, part, strict=True)]

    def joined(layers: Sequence[Mapping[str, np.ndarray]], name: str) -> np.ndarray:
        return np.concatenate([layer[name][keep] for layer, keep in zip(layers, kept, strict=True)])

    channels = sum(int(keep.sum()) for keep in kept)
    if not channels:
        raise UndefinedError("no channel varies in both the source and the data")
    means, variances = (
        np.stack([joined(part, name) for part in split]) if split else np.zeros((0, channels)) for name in ("mean", "var")
    )
    return Known(joined(old, "mean"), joined(old, "var"), joined(new, "mean"), joined(new, "var"), means, variances)


def _vectors(tree: Any) -> list[dict[str, np.ndarray]]:
    """The layers of a tree of mappings and sequences, mappings in the order of their keys, float64."""
    if isinstance(tree, Mapping):
        if "mean" in tree:
            return [{name: np.asarray(tree[name], np.float64) for name in ("mean", "var")}]
        return [layer for name in sorted(tree) for layer in _vectors(tree[name])]
    if isinstance(tree, (list, tuple)):
        return [layer for item in tree for layer in _vectors(item)]
    return []
