"""The record a benchmark leaves: its rows, and the machine and versions they were measured with."""

import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fteng import record
from fteng.paths import write_json

_FOLDER = Path(__file__).parent / "records"


def write_record(name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Writes `records/NAME.json` beside this file and returns its path. Every row should say its n and its spread."""
    path = _FOLDER / f"{name}.json"
    value = {
        "benchmark": name,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hardware": _hardware(),
        "versions": record.versions(),
        "revision": record.git_revision(),
        "rows": list(rows),
    }
    write_json(path, value)
    return path


def _hardware() -> dict[str, Any]:
    """load_per_core: other work beside the benchmark, averaged over the last minute; 0 is an idle machine."""
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    load = round(os.getloadavg()[0] / cores, 2)
    return {"cpu": record.cpu(), "memory_gib": round(memory / 2**30, 1), "load_per_core": load}
