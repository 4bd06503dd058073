"""A freeze plan says which stages, and which of their leaves, train. Freezing is a slice of the stage list. Imports no jax."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fteng.errors import UserError

_LEAVES = ("all", "norm", "bias")


class FreezePlan(NamedTuple):
    """What trains beside the head.

    stages: names up to and with the tap, in order; trains: one bool a stage; leaves: which leaves of a trained stage
    train: `all`, `norm` (scale and bias of norm layers) or `bias` (every bias; BitFit, Zaken et al. 2022).
    """

    stages: tuple[str, ...]
    trains: tuple[bool, ...]
    leaves: str = "all"

    @property
    def tap(self) -> str:
        """The stage whose output the head reads."""
        return self.stages[-1]

    @property
    def boundary(self) -> int:
        """Index of the first stage that trains; `len(stages)` for a linear probe. Everything before it is constant."""
        return self.trains.index(True) if any(self.trains) else len(self.stages)

    @property
    def freeze_depth(self) -> int | None:
        """Number of leading frozen stages if the plan is a prefix, else None."""
        return self.boundary if all(self.trains[self.boundary :]) else None

    @property
    def trainable_stages(self) -> tuple[str, ...]:
        """Names of the stages that train."""
        return tuple(name for name, train in zip(self.stages, self.trains, strict=True) if train)


def describe(tap: str, freeze_depth: int | None, trainable_stages: Sequence[str], leaves: str) -> str:
    """A plan in words; its arguments as in a record."""
    only = "" if leaves == "all" else f", {leaves} parameters only"
    if not trainable_stages:
        return f"{describe_probe(tap)}, trained by steps"
    if freeze_depth is None:
        return f"only {', '.join(trainable_stages)} tuned{only}"
    return f"everything tuned{only}" if freeze_depth == 0 else f"first {freeze_depth} stages frozen{only}"


def describe_probe(tap: str) -> str:
    """In words: nothing is tuned, and the network ends at the tap."""
    return f"linear classifier on {tap}"


def prefix_plan(stages: Sequence[str], freeze_depth: int, leaves: str = "all") -> FreezePlan:
    """The first `freeze_depth` of `stages` are frozen, the rest trains. Raises UserError on a depth outside 0 ... len(stages), and
    on other `leaves` than a plan knows."""
    if not 0 <= freeze_depth <= len(stages):
        raise UserError(
            f"sweep.freeze_depths: got {freeze_depth}, allowed: 0 (all trains) to {len(stages)} (linear probe), `all`, or a stage:"
            f" {', '.join(stages)}"
        )
    return FreezePlan(tuple(stages), tuple(index >= freeze_depth for index in range(len(stages))), _known(leaves))


def stage_set_plan(stages: Sequence[str], trained: Iterable[str], leaves: str = "all") -> FreezePlan:
    """Only the named stages (`last`: the last one) train (surgical fine-tuning, Lee et al. 2022). Raises UserError on a name that
    is no stage, with the nearest, and on other `leaves` than a plan knows."""
    chosen = expand(trained, stages, {})
    return FreezePlan(tuple(stages), tuple(name in chosen for name in stages), _known(leaves))


def parse_freeze_depth(text: str, stages: Sequence[str], groups: Mapping[str, Sequence[str]]) -> int:
    """A number, `all`, or a stage or group name (frozen up to and with it), as a freeze depth. Raises UserError."""
    if text.removeprefix("-").isdecimal():
        depth = int(text)
    elif text == "all":
        depth = len(stages)
    else:
        depth = last_stage(text, stages, groups) + 1
    return prefix_plan(stages, depth).boundary


def last_stage(name: str, stages: Sequence[str], groups: Mapping[str, Sequence[str]]) -> int:
    """Index of a stage, of the last stage of a group, or of `last`. Raises UserError with the nearest name."""
    if name == "last":
        return len(stages) - 1
    if name in groups:
        name = groups[name][-1]
    if name not in stages:
        known = [*stages, *groups]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"allowed: {', '.join(known)}"
        raise UserError(f"no stage or group is called {name!r}; {hint}")
    return list(stages).index(name)


def expand(names: Iterable[str], stages: Sequence[str], groups: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Stage names with groups replaced by their stages, and `last` by the last, in the order of `stages`. Raises UserError on an
    unknown name."""
    chosen: set[str] = set()
    for name in names:
        last = stages[last_stage(name, stages, groups)]
        chosen.update(groups.get(name, (last,)))
    return tuple(stage for stage in stages if stage in chosen)


def _known(leaves: str) -> str:
    if leaves not in _LEAVES:
        raise UserError(f"leaves: got {leaves!r}, allowed: {', '.join(_LEAVES)}")
    return leaves
