"""A freeze plan as a mask over a parameter tree, and the two trees it makes of one: trainable and frozen.

A hole in either tree is an `optax.MaskedNode`, a container without children: gradients, optimizer state, norms and logs that
are taken over the trainable tree cannot touch what is frozen, because it is not there.
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
    """True where a leaf trains. Raises ValueError if the trees are not one a stage of the plan."""
    masks = tuple(
        _stage_mask(tree, plan.leaves) if trains else jax.tree.map(lambda _: False, tree)
        for tree, trains in zip(parameters.stages, plan.trains, strict=True)
    )
    return Parameters(masks, jax.tree.map(lambda _: True, parameters.head))


def decay_mask(tree: Tree) -> Tree:
    """True where weight decay applies: kernels, never biases, norms, tokens or position embeddings."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", tree)


def split(parameters: Parameters, mask: Parameters) -> tuple[Parameters, Parameters]:
    """(trainable, frozen): each leaf stands in one of them and is a hole in the other."""
    return _keep(mask, parameters, True), _keep(mask, parameters, False)


def merge(trainable: Parameters, frozen: Parameters) -> Parameters:
    """The whole tree again; the inverse of `split`."""
    return jax.tree.map(lambda one, other: other if _is_hole(one) else one, trainable, frozen, is_leaf=_is_hole)


def size_bytes(tree: Tree) -> int:
    """Bytes of all array leaves."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def count(tree: Tree) -> int:
    """Number of scalars in all array leaves."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _is_hole(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _keep(mask: Tree, tree: Tree, wanted: bool) -> Tree:
    return jax.tree.map(lambda flag, leaf: leaf if flag is wanted else optax.MaskedNode(), mask, tree)


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
