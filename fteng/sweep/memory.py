"""What a study will hold in memory at its peak, before its trials run."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fteng.machine import free_on_device, give_back_memory, held_bytes
from fteng.sweep.together import populations, state_bytes
from fteng.sweep.track import Track
from fteng.trials import TrialSpec

# Of the host: programs that evaluate, writers of checkpoints and answers, which come when trials run. Seen, not reckoned, on
# studies of EfficientNet-Lite0 (benchmarks/memory.py).
_ALONGSIDE = 300 * 2**20


class Memory(NamedTuple):
    """Bytes where trials run: the memory of an accelerator, else that of this process.

    held: whatever they are: libraries, images, weights, programs; cached: activations that are yet to be kept there; states:
    of the trials that advance together, and step: what one call needs beside them, of the population that needs most.
    """

    held: int
    cached: int
    states: int
    step: int

    def __str__(self) -> str:
        parts = (f"{value / 2**30:.2f} {name}" for name, value in zip(("in any case", *self._fields[1:]), self, strict=True))
        return f"{sum(self) / 2**30:.2f} GiB ({', '.join(parts)})"


def predicted_memory(track: Track, specs: Sequence[TrialSpec], kept: Sequence[Mapping[str, Any]]) -> Memory:
    """Of all trials of `specs`, whose steps are compiled; what the compiler left is given back first. kept: what is yet to be
    cached, as the record has it."""
    give_back_memory()
    own = free_on_device() is not None
    places = ("device",) if own else ("device", "memory")
    cached = sum(choice["bytes"] for choice in kept if choice["place"] in places)
    needed = [(state_bytes(track, together), _step_bytes(track, together)) for together in _together(track, specs)]
    return Memory(held_bytes() + (0 if own else _ALONGSIDE), cached, *max(needed, key=sum))


def _together(track: Track, specs: Sequence[TrialSpec]) -> list[list[TrialSpec]]:
    """Of a race all rates of one way at one seed."""
    if track.site.ground.config.sweep.search != "race":
        return populations(track, specs)
    heats: dict[object, list[TrialSpec]] = {}
    for spec in specs:
        heats.setdefault((spec.plan, spec.variant, spec.seed), []).append(spec)
    return list(heats.values())


def _step_bytes(track: Track, together: Sequence[TrialSpec]) -> int:
    """Of the step that needs most, its images or activations included."""
    batch, size = track.site.bench.length.batch, track.site.ground.dataset.images.shape[1]
    most = 0
    for spec in together:
        entered = track.walk.shapes(track.starts[spec.variant.start], size, batch)[track.shape(spec).entry]
        most = max(most, track.program(spec).temporary_bytes + 4 * entered.size)
    return most
