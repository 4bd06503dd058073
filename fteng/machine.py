"""The memory of this machine: what is free, what this process holds, and what it gives back."""

import ctypes
import os
import sys
from pathlib import Path

import jax

from fteng.distributed import agree
from fteng.process import WORKERS_HERE


def available_memory() -> int:
    """Bytes a program may still take, to the first of several processes; on Linux what files occupy counts, and no more than the
    limits of its control groups (containers, SLURM) leave. Shared alike by workers that the launcher runs on this machine."""
    return agree(min(_free_memory(), left_in_groups(Path("/"))) // int(os.environ.get(WORKERS_HERE, "1")))


def left_in_groups(root: Path) -> int:
    """Bytes below the tightest memory limit of this process's control groups and those around them. root: of the file system."""
    left = [sys.maxsize]
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return sys.maxsize
    for line in lines:
        _, kinds, name = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if kinds else ("memory.max", "memory.current")
        top = root / "sys/fs/cgroup" / ("memory" if kinds else "")
        group = top / name.lstrip("/")
        for folder in (group, *(above for above in group.parents if above.is_relative_to(top))):
            try:
                limit, used = ((folder / part).read_text(encoding="ascii").strip() for part in names)
                # What files occupy is given back when it is asked for.
                stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
            except (OSError, ValueError):
                continue
            if limit != "max":
                left.append(max(0, int(limit) - int(used) + int(stat.get("inactive_file", 0))))
    return min(left)


def free_on_device() -> int | None:
    """Bytes free of the first accelerator's own memory; None where arrays lie in the host's."""
    own = jax.local_devices()[0].memory_stats()
    return int(own["bytes_limit"] - own["bytes_in_use"]) if own and "bytes_limit" in own else None


def held_bytes() -> int:
    """In use now, on the first accelerator; else by this process (0 where the system does not say)."""
    stats = jax.local_devices()[0].memory_stats()
    if stats is not None:
        return stats["bytes_in_use"]
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)


def give_back_memory() -> None:
    """What is free goes back to the system, where its C library has a word for it (glibc): a compiler leaves up to gibibytes."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _free_memory() -> int:
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return pages
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), pages)
