"""The numbers of a network: fitted from a file's tensors, named again for a file, or redrawn; what does not fit is one line."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fteng.backbones.naming import Naming, Slot, leaf_of
from fteng.backbones.network import Network
from fteng.errors import UserError

Tree = Any

# Names shown of each group of a mismatch; of more, how many each part of the network has, for so many parts.
_SHOWN, _PARTS = 8, 32
# The classifier of a file of ours whose own naming has no place for it.
_OWN_HEAD = {
    "fteng.head.kernel": Slot("head", 0, ("kernel",), (0, 1)),
    "fteng.head.bias": Slot("head", 0, ("bias",), (0,)),
}


class Weights(NamedTuple):
    """The numbers of a backbone: params and stats, one pure dict a stage.

    source_head: the classifier it was pretrained with, if the file has one: `kernel` (features, source classes) and `bias`
    (source classes,), read by the first features of the last tap (a vision transformer's head reads the class token alone);
    digest: sha256 of the file, or `random:SEED`; naming: which publisher's names the file had, empty for random weights; notes:
    what was done to read it, a line each.
    """

    params: tuple[Tree, ...]
    stats: tuple[Tree, ...]
    source_head: Mapping[str, Any] | None
    digest: str
    naming: str
    notes: tuple[str, ...] = ()


def fit(network: Network, tensors: Mapping[str, np.ndarray], digest: str, origin: str) -> Weights:
    """The file's numbers as the network's trees, in float32.

    Raises UserError that lists, group by group, what does not fit the naming that fits best: by name up to 8, and of more the first
    and how many each part of the network has.
    """

    def match(naming: Naming) -> tuple[int, int]:
        """How many tensors have a place, and, where namings are equal in that, how many are known at all."""
        return len(naming.slots.keys() & tensors.keys()), len((naming.slots.keys() | naming.unused) & tensors.keys())

    naming = max(network.namings, key=match)
    if not naming.slots.keys() & tensors.keys():
        # Inside a wrapper, whose name is before every other.
        naming = next((known for known in network.namings if _behind(_body(known.slots), tensors)), naming)
    # Shapes alone: to draw random numbers that are then replaced would take longer than to read the file. A copy, to be filled.
    params, stats = jax.tree.map(lambda leaf: leaf, network.shapes)
    if _OWN_HEAD.keys() <= tensors.keys():
        naming = naming._replace(slots=_body(naming.slots) | _OWN_HEAD)
    slots = dict(naming.slots)
    head_names = [name for name, slot in slots.items() if slot.collection == "head"]
    if not any(name in tensors for name in head_names):
        slots = _body(slots)
    own = slots.keys() >= _OWN_HEAD.keys()
    head = _head_shapes(network.backbone.channels[-1] if own else network.head_features, slots, tensors)
    trees = {"params": params, "stats": stats, "head": (head,)}
    _check_fit(network, naming, slots, trees, tensors, origin)
    for name, slot in slots.items():
        parent = leaf_of(trees, slot._replace(path=slot.path[:-1]))
        parent[slot.path[-1]] = jnp.asarray(_placed(slot, tensors[name]), jnp.float32)
    return Weights(params, stats, head or None, digest, naming.name)


def named(naming: Naming, params: Sequence[Tree], stats: Sequence[Tree], head: Mapping[str, Any] | None) -> dict[str, np.ndarray]:
    """The trees as a state dict in a publisher's names and layout, float32: the inverse of `fit`.

    params, stats: of all stages that the naming names; without a head its names are left out.
    """
    trees = {"params": params, "stats": stats, "head": (head,)}
    tensors: dict[str, np.ndarray] = {}
    for name, slot in naming.slots.items():
        if slot.collection != "head" or head is not None:
            ours = np.asarray(leaf_of(trees, slot), np.float32)
            theirs = ours.transpose(np.argsort(slot.axes))
            tensors[name] = np.ascontiguousarray(theirs.reshape(slot.file_shape) if slot.view else theirs)
    return tensors


def mean_var(weights: Weights, seed: int) -> Weights:
    """A control: every array of parameters drawn anew from a normal distribution with its own mean and deviation (Raghu et al.
    2019, "Mean Var"). It keeps the scale of each layer and none of its features."""
    rng = np.random.default_rng(seed)

    def redrawn(leaf: Any) -> Any:
        values = np.asarray(leaf)
        return jnp.asarray(rng.normal(values.mean(), values.std(), values.shape), values.dtype)

    params = jax.tree.map(redrawn, weights.params)
    return weights._replace(params=params, source_head=None, digest=f"mean_var:{seed}:{weights.digest}")


def _placed(slot: Slot, tensor: np.ndarray) -> np.ndarray:
    """The tensor in our layout. Raises ValueError if it cannot be brought there."""
    if slot.view and tensor.shape != slot.file_shape:
        raise ValueError(f"shape {tensor.shape} is not {slot.file_shape}")
    return (tensor.reshape(slot.view) if slot.view else tensor).transpose(slot.axes)


def _body(slots: Mapping[str, Slot]) -> dict[str, Slot]:
    """Without the source classifier."""
    return {name: slot for name, slot in slots.items() if slot.collection != "head"}


def _head_shapes(features: int, slots: Mapping[str, Slot], tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What the source classifier should look like: it has as many classes as its bias says, without one its kernel."""
    names = {slot.path[-1]: name for name, slot in slots.items() if slot.collection == "head"}
    if not names:
        return {}
    if names["bias"] in tensors:
        classes = tensors[names["bias"]].size
    else:
        of_classes, kernel = slots[names["kernel"]].axes[1], tensors[names["kernel"]]
        classes = kernel.shape[of_classes] if of_classes < kernel.ndim else 0
    return {
        "kernel": jax.ShapeDtypeStruct((features, classes), jnp.float32),
        "bias": jax.ShapeDtypeStruct((classes,), jnp.float32),
    }


def _check_fit(
    network: Network,
    naming: Naming,
    slots: Mapping[str, Slot],
    trees: Mapping[str, Tree],
    tensors: Mapping[str, np.ndarray],
    origin: str,
) -> None:
    missing = [name for name in slots if name not in tensors]
    # Files have them in any order.
    found = sorted(tensors, key=_in_order)
    unexpected = [name for name in found if name not in naming.slots and name not in naming.unused]
    unused = [name for name in found if name in naming.unused]
    wrong: list[str] = []
    infinite: list[str] = []
    for name, slot in slots.items():
        if name in tensors:
            problem = _shape_problem(slot, tensors[name], leaf_of(trees, slot).shape)
            if problem:
                wrong.append(f"{name} {problem}")
            elif not np.isfinite(tensors[name].astype(np.float32)).all():
                infinite.append(name)
    if missing or unexpected or wrong:
        groups = {"missing": missing, "unexpected": unexpected, "wrong shape": wrong, "known and unused": unused}
        listed = "; ".join(_group(title, names) for title, names in groups.items())
        if prefix := _behind(missing, unexpected):
            mend = f"the missing, all of them are there behind {prefix!r}: save the inner network, or rename them"
        else:
            shorter = _shorter(network, slots, missing, unexpected, wrong)
            mend = f"give a file of this network, or another backbone.name{shorter}"
        raise UserError(f"{origin} does not fit {network.backbone.name} ({naming.name} names): {listed}; {mend}")
    if infinite:
        raise UserError(f"{origin} holds values that are not finite: {_group('tensors', infinite)}; fetch or train it again")


def _shape_problem(slot: Slot, tensor: np.ndarray, wanted: tuple[int, ...]) -> str:
    """Empty if the tensor can be brought to the shape `wanted`, else what it is and what it should be."""
    try:
        if _placed(slot, tensor).shape == wanted:
            return ""
    except ValueError:
        pass
    needed = slot.file_shape if slot.view else tuple(wanted[slot.axes.index(axis)] for axis in range(len(wanted)))
    return f"{tensor.shape} for {needed}"


def _shorter(
    network: Network, slots: Mapping[str, Slot], missing: Sequence[str], unexpected: Sequence[str], wrong: Sequence[str]
) -> str:
    """Where only the last stages are not in the file: how to do without them."""
    stages = {slots[name].stage for name in missing if slots[name].collection != "head"}
    if unexpected or wrong or not stages or min(stages) == 0:
        return ""
    if stages != set(range(min(stages), len(network.backbone.stages))):
        return ""
    return f", or leave its last stages out: backbone.last_stage={network.backbone.stages[min(stages) - 1]}"


def _behind(names: Collection[str], found: Collection[str]) -> str:
    """The prefix behind which all of `names` are among `found`, with the dot or slash that ends it; empty where there is none."""
    if not names:
        return ""
    first, among = next(iter(names)), set(found)
    prefixes = (name.removesuffix(first) for name in found if name.endswith((f".{first}", f"/{first}")))
    return next((prefix for prefix in prefixes if all(f"{prefix}{name}" in among for name in names)), "")


def _group(title: str, names: Sequence[str]) -> str:
    if len(names) <= _SHOWN:
        return f"{title} {len(names)}" + (f" ({', '.join(names)})" if names else "")
    parts = [f"{part}: {count}" for part, count in Counter(map(_part, names)).items()]
    rest = f", ... {len(parts) - _PARTS} more" if len(parts) > _PARTS else ""
    return f"{title} {len(names)} ({names[0]}, ...; {', '.join(parts[:_PARTS])}{rest})"


def _in_order(name: str) -> list[tuple[int, str]]:
    """A key that puts `_blocks.9` before `_blocks.10`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _part(name: str) -> str:
    """Of a tensor, which may be followed by its shape, its part of the network: `_blocks.0` of `_blocks.0._bn0.weight`, `_fc` of
    `_fc.weight`."""
    owner = re.split(r"[./][^./]*$", name.partition(" ")[0])[0]
    numbered = re.match(r".*?\d(?=[./]|$)", owner)
    return numbered[0] if numbered else owner
