"""Which trials advance together: those of one population, as many as memory holds the states of."""

from collections import Counter
from collections.abc import Sequence

from fteng.distributed import agree
from fteng.machine import available_memory, free_on_device
from fteng.sweep.lanes import population_of
from fteng.sweep.track import Track
from fteng.trials import TrialSpec

# Of the free memory where trials run, for the states of trials that advance together.
_SHARE_OF_STATES = 0.25


def populations(track: Track, specs: Sequence[TrialSpec]) -> list[list[TrialSpec]]:
    """Of an exhaustive sweep, in the order in which they run."""
    groups: dict[object, list[TrialSpec]] = {}
    for spec in specs:
        groups.setdefault(population_of(spec, track.site.ground.config.train), []).append(spec)
    return [part for group in groups.values() for part in _split(track, group)]


def state_bytes(track: Track, together: Sequence[TrialSpec]) -> int:
    """Of the states of trials that advance together: on an accelerator what the fullest lane holds, on the host all."""
    shared, used = free_on_device() is None, Counter[int]()
    for spec in together:
        used[_room_of(track, spec, shared)] += track.program(spec).state_bytes
    return max(used.values(), default=0)


def _room_of(track: Track, spec: TrialSpec, shared: bool) -> int:
    """Whose memory a trial's state lies in: its lane's, or that which all lanes share."""
    return 0 if shared else track.lanes[spec.id]


def _split(track: Track, specs: Sequence[TrialSpec]) -> list[list[TrialSpec]]:
    device = free_on_device()
    most = _SHARE_OF_STATES * (available_memory() if device is None else agree(device))
    parts: list[list[TrialSpec]] = [[]]
    used = Counter[int]()
    for spec in specs:
        where, size = _room_of(track, spec, device is None), track.program(spec).state_bytes
        # One that alone is too large goes alone.
        if parts[-1] and used[where] + size > most:
            parts.append([])
            used.clear()
        parts[-1].append(spec)
        used[where] += size
    return parts
