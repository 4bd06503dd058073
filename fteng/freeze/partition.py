"""A freeze plan as a mask over a parameter tree, and the two trees it makes of one: trainable and frozen.

A hole in either tree is an `optax.MaskedNode`, a container without children: gradients, optimizer state, norms and logs that
are taken over the trainable tree cannot touch what is frozen, because it is not there. A frozen stage is a
single hole: a program's arguments are taken apart at every call, and a hole for each of its leaves took longer than a linear
probe's step.
"""

from typing import Any, NamedTuple

import jax
import optax

from fteng.freeze.plan import FreezePlan

Tree = Any


class Parameters(NamedTuple):
    """stages: one tree a stage up to the tap, in order; head: `kernel` (channels, classes) and `bias` (classes,)."""

    stages: tuple[Tree, ...]
    head: Tree


def trainable_mask(plan: FreezePlan, parameters: Parameters) -> Parameters:
    """True where a leaf trains, and a single False for a frozen stage. Raises ValueError if the trees are not one a stage of the
    plan."""
    if len(parameters.stages) != len(plan.stages):
        raise ValueError(f"the plan has {len(plan.stages)} stages, the parameters {len(parameters.stages)}")
    masks = tuple(
        _stage_mask(tree, plan.leaves) if trains else False for tree, trains in zip(parameters.stages, plan.trains, strict=True)
    )
    return Parameters(masks, jax.tree.map(lambda _: True, parameters.head))


def decay_mask(tree: Tree) -> Tree:
    """True where weight decay applies: kernels, never biases, norms, tokens or position embeddings."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", tree)


def split(parameters: Parameters, *, trains: Parameters) -> tuple[Parameters, Parameters]:
    """(trainable, frozen): each leaf stands in one of them and is a hole, or in one, in the other. trains: see `trainable_mask`."""
    return _keep(trains, parameters, wanted=True), _keep(trains, parameters, wanted=False)


def merge(trainable: Parameters, frozen: Parameters) -> Parameters:
    """The whole tree again; the inverse of `split`."""
    stages = map(_filled, trainable.stages, frozen.stages)
    return Parameters(tuple(stages), _filled(trainable.head, frozen.head))


def size_bytes(tree: Tree) -> int:
    """Bytes of all array leaves."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def count(tree: Tree) -> int:
    """Number of scalars in all array leaves."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _is_hole(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _keep(mask: Tree, tree: Tree, *, wanted: bool) -> Tree:
    return jax.tree.map(lambda flag, part: part if flag is wanted else optax.MaskedNode(), mask, tree)


def _filled(one: Tree, other: Tree) -> Tree:
    """`one` with what `other` has where it has holes."""
    if _is_hole(one) or _is_hole(other):
        return other if _is_hole(one) else one
    return {name: _filled(item, other[name]) for name, item in one.items()}


def _stage_mask(tree: Tree, leaves: str) -> Tree:
    """In a stage's tree a norm layer is a dict that holds `scale`; every other dict is walked down."""
    if not isinstance(tree, dict):
        return leaves == "all"
    if "scale" in tree:
        return {name: leaves in ("all", "norm") or (leaves == "bias" and name == "bias") for name in tree}
    return {
        name: leaves in ("all", "bias") if name == "bias" and not isinstance(item, dict) else _stage_mask(item, leaves)
        for name, item in tree.items()
    }
