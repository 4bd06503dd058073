"""The proof in every trial that frozen means frozen. Written against the plan's words, not against the mask that training used."""

from typing import Any, NamedTuple

import jax
import numpy as np

from fteng.config import TrainConfig
from fteng.freeze import partition
from fteng.freeze.partition import Parameters
from fteng.freeze.plan import FreezePlan
from fteng.train.step import Program
from fteng.trials import TrialSpec

Tree = Any
FLOPS_TOLERANCE = 0.05


class Check(NamedTuple):
    """One line of the audit. passed is None where the check does not apply; fatal: broken, it makes the trial `failed`."""

    check: str
    passed: bool | None
    value: float
    detail: str
    fatal: bool = True

    def record(self) -> dict[str, Any]:
        """As it stands in result.json."""
        return {"check": self.check, "passed": self.passed, "value": self.value, "detail": self.detail}


def audit_trial(
    spec: TrialSpec,
    recipe: TrainConfig,
    program: Program,
    before: tuple[Parameters, tuple[Tree, ...]],
    after: tuple[Parameters, tuple[Tree, ...]],
    optimizer: Any,
) -> list[Check]:
    """All checks of one finished trial. before, after: (parameters, batch-norm statistics), whole."""
    plan = spec.plan
    return [
        _frozen_parameters(plan, before[0], after[0]),
        _frozen_statistics(spec, before[1], after[1]),
        _optimizer_bytes(plan, recipe, before[0], optimizer),
        check_flops(plan, program),
    ]


def _frozen_parameters(plan: FreezePlan, before: Parameters, after: Parameters) -> Check:
    changed, frozen = [], 0
    for name, trains, old, new in zip(plan.stages, plan.trains, before.stages, after.stages, strict=True):
        for path, leaf in jax.tree_util.tree_leaves_with_path(old):
            if trains and _leaf_may_train(plan.leaves, path, old):
                continue
            frozen += 1
            other = new
            for key in path:
                other = other[key.key]  # pyright: ignore[reportAttributeAccessIssue]
            if not _same_bits(leaf, other):
                changed.append(f"{name}{jax.tree_util.keystr(path)}")
    detail = f"changed: {', '.join(changed[:5])}" if changed else f"{frozen} frozen arrays are bit-equal to the source weights"
    return Check("frozen parameters are bit-equal", not changed, len(changed), detail)


def _leaf_may_train(leaves: str, path: tuple[Any, ...], tree: Tree) -> bool:
    if leaves == "all":
        return True
    parent = tree
    for key in path[:-1]:
        parent = parent[key.key]
    return path[-1].key == "bias" if leaves == "bias" else "scale" in parent


def _frozen_statistics(spec: TrialSpec, before: tuple[Tree, ...], after: tuple[Tree, ...]) -> Check:
    name = "statistics of kept batch norm are bit-equal"
    moved = {"batch": (True,), "batch_all": (True, False)}.get(spec.variant.batch_norm, ())
    kept = [index for index, trains in enumerate(spec.plan.trains) if trains not in moved]
    pairs = [
        (old, new) for index in kept for old, new in zip(jax.tree.leaves(before[index]), jax.tree.leaves(after[index]), strict=True)
    ]
    if not pairs:
        reason = "every stage follows its batches, as the config asks" if not kept else "the network has no batch norm there"
        return Check(name, None, 0, reason)
    changed = sum(not _same_bits(old, new) for old, new in pairs)
    return Check(name, changed == 0, changed, f"{len(pairs)} arrays of {len(kept)} stages compared")


def _optimizer_bytes(plan: FreezePlan, recipe: TrainConfig, parameters: Parameters, optimizer: Any) -> Check:
    """Adam keeps two moments of each trainable scalar and one 4-byte step counter, SGD one trace of each."""
    scalars = partition.count(parameters.head)
    for trains, tree in zip(plan.trains, parameters.stages, strict=True):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            scalars += leaf.size if trains and _leaf_may_train(plan.leaves, path, tree) else 0
    expected = 2 * 4 * scalars + 4 if recipe.optimizer == "adamw" else 4 * scalars
    got = partition.size_bytes(optimizer)
    detail = f"{got} bytes for {scalars} trainable parameters; expected {expected}"
    return Check("optimizer state is of trainable leaves only", got == expected, got, detail)


def check_flops(plan: FreezePlan, program: Program) -> Check:
    """The compiled step against the forward pass and the suffix's backward pass: more means that frozen stages are differentiated.

    Where only norm layers or biases train, or a stage set has frozen stages behind its boundary, fewer are right: no lower bound.
    """
    ratio = program.flops / program.expected_flops
    detail = f"{program.flops / 1e9:.3f} GFLOP a step; forward + backward of the suffix = {program.expected_flops / 1e9:.3f}"
    whole = plan.leaves == "all" and plan.freeze_depth is not None
    passed = ratio <= 1 + FLOPS_TOLERANCE and (ratio >= 1 - FLOPS_TOLERANCE or not whole)
    return Check("FLOPs of the compiled step are forward + backward of the suffix", passed, ratio, detail, fatal=False)


def check_compilations(compiled: int, first_of_shape: bool) -> Check:
    """Rate, seed and weights are arguments: a further trial of a shape compiles nothing."""
    detail = f"{compiled} programs compiled during the trial{', the first of its shape' if first_of_shape else ''}"
    passed = None if first_of_shape else compiled == 0
    return Check("no compilation for a trial of a known shape", passed, 0 if first_of_shape else compiled, detail, fatal=False)


def _same_bits(one: Any, other: Any) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
