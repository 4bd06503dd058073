"""Which trials advance together: those of one population, as many as memory holds the states of."""

from collections import Counter
from collections.abc import Sequence

from fteng.distributed import agree
from fteng.feed import free_on_device
from fteng.prefix import budget
from fteng.programs import population_of
from fteng.sweep.track import Track
from fteng.trials import TrialSpec

# Of the free memory where trials run, for the states of trials that advance together.
_SHARE_OF_STATES = 0.25


def populations(track: Track, specs: Sequence[TrialSpec]) -> list[list[TrialSpec]]:
    """Of an exhaustive sweep, in the order in which they run."""
    groups: dict[object, list[TrialSpec]] = {}
    for spec in specs:
        groups.setdefault(population_of(spec, track.site.config.train), []).append(spec)
    return [part for group in groups.values() for part in _split(track, group)]


def state_bytes(track: Track, together: Sequence[TrialSpec]) -> int:
    """Of the states of trials that advance together: on an accelerator what the fullest lane holds, on the host all."""
    own, used = free_on_device() is not None, Counter[int]()
    for spec in together:
        used[track.lanes[spec.id] if own else 0] += track.program(spec).state_bytes
    return max(used.values(), default=0)


def _split(track: Track, specs: Sequence[TrialSpec]) -> list[list[TrialSpec]]:
    device = free_on_device()
    room = _SHARE_OF_STATES * (budget.available_memory() if device is None else agree(device))
    parts: list[list[TrialSpec]] = [[]]
    for spec in specs:
        if parts[-1] and state_bytes(track, [*parts[-1], spec]) > room:
            parts.append([])
        parts[-1].append(spec)
    return parts
