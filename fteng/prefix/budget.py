"""Which activations are worth keeping, and where: seconds saved against bytes."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fteng.distributed import agree
from fteng.entry import Entry
from fteng.machine import available_memory, free_on_device

# Of the memory that is free now. The rest is for weights, states of trials and what a step needs.
_SHARE_OF_MEMORY = 0.4
# Of the free disk; a study must not be what fills it.
_SHARE_OF_DISK = 0.25


class Want(NamedTuple):
    """What is asked of one entry. images: how many images will enter there, over all trainings and evaluations of the study (trials
    that advance together on one batch count once); bytes: of all activations that would be kept."""

    entry: Entry
    images: float
    bytes: int


class Room(NamedTuple):
    """Bytes that may be used. device: of an accelerator, 0 where the device is the host's memory."""

    device: int
    memory: int
    disk: int


class Choice(NamedTuple):
    """What happens at one entry. place: device, memory, disk, or empty: recomputed at every batch; seconds: to compute the
    activations of all its images again and again; saved: of those, by keeping; reason: in words, for the user."""

    entry: Entry
    place: str
    bytes: int
    seconds: float
    saved: float
    reason: str

    def record(self, stages: Sequence[str]) -> dict[str, Any]:
        """As it stands in study.json."""
        after = stages[self.entry.stage - 1] if self.entry.stage else ""
        return self._asdict() | {"entry": self.entry.stage, "after": after, "pooled": self.entry.pooled}


class Prices(NamedTuple):
    """What choices are reckoned with. seconds_to: of one image from its pixels to each cut; kept_images: how many fill a cache;
    chained: what is recomputed may start from a kept entry below, else from the images."""

    seconds_to: Mapping[int, float]
    kept_images: int
    chained: bool = True


def choose(wants: Sequence[Want], prices: Prices, room: Room) -> list[Choice]:
    """One choice a want.

    Greedy: again and again the entry that saves most seconds a byte, as long as one saves any. To fill the caches takes one walk
    up to the highest of them; what is recomputed starts from the nearest one below.
    """
    chosen: dict[Entry, str] = {}
    left = room._asdict()
    while True:
        spent = _seconds(wants, prices, chosen)
        best: tuple[float, Entry, str] | None = None
        for want in wants:
            place = next((name for name in ("device", "memory", "disk") if want.bytes <= left[name]), None)
            if want.entry in chosen or want.entry.stage == 0 or place is None:
                continue
            saved = spent - _seconds(wants, prices, chosen | {want.entry: place})
            gain = saved / max(want.bytes, 1)
            if saved > 0 and (best is None or gain > best[0]):
                best = gain, want.entry, place
        if best is None:
            break
        _, entry, place = best
        chosen[entry] = place
        left[place] -= next(want.bytes for want in wants if want.entry == entry)
    return [_choice(want, wants, prices, chosen, room) for want in wants]


def free_room(memory_gib: float, disk_gib: float, folder: Path) -> Room:
    """What may be used: as the config says, or, where it says a negative number, a share of what is free (to the first of several
    processes). A budget of memory is one of the device first, where that has its own."""
    share = int(_SHARE_OF_MEMORY * (free_on_device() or 0))
    memory = int(memory_gib * 2**30) if memory_gib >= 0 else int(_SHARE_OF_MEMORY * available_memory())
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    disk = int(disk_gib * 2**30) if disk_gib >= 0 else int(_SHARE_OF_DISK * shutil.disk_usage(there).free)
    return Room(*agree([share if memory_gib < 0 else min(share, memory), memory, disk]))


def less(room: Room, choices: Sequence[Choice]) -> Room:
    """What these choices leave."""
    taken = {name: sum(choice.bytes for choice in choices if choice.place == name) for name in room._fields}
    return Room(**{name: limit - taken[name] for name, limit in room._asdict().items()})


def _from(entry: Entry, chosen: Mapping[Entry, str]) -> int:
    """The stage from which this entry is recomputed."""
    return max((kept.stage for kept in chosen if kept.stage <= entry.stage and not kept.pooled), default=0)


def _seconds(wants: Sequence[Want], prices: Prices, chosen: Mapping[Entry, str]) -> float:
    to = prices.seconds_to
    fill = prices.kept_images * max((to[entry.stage] for entry in chosen), default=0.0)
    again = (
        want.images * (to[want.entry.stage] - to[_from(want.entry, chosen) if prices.chained else 0])
        for want in wants
        if want.entry not in chosen
    )
    return fill + sum(again)


def _choice(
    want: Want,
    wants: Sequence[Want],
    prices: Prices,
    chosen: Mapping[Entry, str],
    room: Room,
) -> Choice:
    again = want.images * prices.seconds_to[want.entry.stage]
    size = f"{want.bytes / 2**20:,.0f} MiB"
    if want.entry in chosen:
        others = {entry: place for entry, place in chosen.items() if entry != want.entry}
        saved = _seconds(wants, prices, others) - _seconds(wants, prices, chosen)
        place = chosen[want.entry]
        return Choice(want.entry, place, want.bytes, again, saved, f"{size} {_WHERE[place]} save {saved:,.0f} s")
    if want.entry.stage == 0:
        return Choice(want.entry, "", want.bytes, again, 0.0, "nothing comes before it")
    if all(want.bytes > limit for limit in room):
        reason = f"{size} are more than the budget of {max(room) / 2**20:,.0f} MiB"
    elif not any(want.bytes <= limit for limit in _left(wants, chosen, room)):
        reason = f"{size} do not fit beside what saves more seconds a byte"
    else:
        reason = f"so few images enter there that to keep {size} saves nothing"
    return Choice(want.entry, "", want.bytes, again, 0.0, reason)


def _left(wants: Sequence[Want], chosen: Mapping[Entry, str], room: Room) -> list[int]:
    sizes = {want.entry: want.bytes for want in wants}
    taken = {name: sum(sizes[entry] for entry, place in chosen.items() if place == name) for name in room._fields}
    return [limit - taken[name] for name, limit in room._asdict().items()]


_WHERE = {"device": "on the device", "memory": "in memory", "disk": "on disk"}
