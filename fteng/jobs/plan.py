"""Which trials go together into units of work, from what each will take. Pure; imports no jax."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fteng.trials import TrialWork

# Units a worker, so that the last to end does not keep the others waiting for long.
_PIECES = 4


class Unit(NamedTuple):
    """Trials that one worker runs in one go. seconds: predicted, the walk to the boundary included."""

    name: str
    trials: tuple[str, ...]
    seconds: float


def make_units(work: Sequence[TrialWork], workers: int, taken: Iterable[str] = ()) -> list[Unit]:
    """Units of trials of one cache, the longest first, as list scheduling wants it (Graham 1969: at most 4/3 of the best makespan).

    They are parted only as far as `workers` need it to be busy to the end, between seeds before within one, and never into parts
    that train for less time than their walk takes. taken: names not to use again.
    """
    pieces = 1 if workers == 1 else _PIECES * workers
    target = sum(one.seconds for one in work) / pieces if pieces > 1 else math.inf
    used, units = set(taken), []
    for cache in dict.fromkeys(one.cache for one in work):
        mine = [one for one in work if one.cache == cache]
        for part in _parts(mine, max(target, mine[0].walk)):
            name = _name(cache, used)
            units.append(Unit(name, tuple(one.trial for one in part), part[0].walk + sum(one.seconds for one in part)))
    return sorted(units, key=lambda unit: -unit.seconds)


def _parts(of_cache: Sequence[TrialWork], target: float) -> list[list[TrialWork]]:
    parts: list[list[TrialWork]] = []
    for seed in dict.fromkeys(one.seed for one in of_cache):
        together = [one for one in of_cache if one.seed == seed]
        length = sum(one.seconds for one in together)
        if parts and sum(one.seconds for one in parts[-1]) + length <= target:
            parts[-1] += together
            continue
        count = min(len(together), max(1, math.ceil(length / target - 1e-9) if target else 1))
        size = math.ceil(len(together) / count)
        parts += [together[begin : begin + size] for begin in range(0, len(together), size)]
    return parts


def _name(cache: str, used: set[str]) -> str:
    head = re.sub(r"[^\w.-]+", "-", cache)
    name = next(name for number in range(len(used) + 1) if (name := f"{head}-{number}") not in used)
    used.add(name)
    return name
