"""A worker's sign of life: what it is at, for whoever asks for the status; and its end, where it makes no step any more."""

import faulthandler
import os
import socket
import sys
import time
from contextlib import suppress
from typing import Any

from fteng import paths
from fteng.jobs.files import JobFiles
from fteng.progress import Reporter

# A file that many may look at, on a disk that others share.
_SECONDS_BETWEEN_BEATS = 2.0


class Beating:
    """A reporter that hands on to another, and keeps WORKDIR/launch/workers/NAME.json up to date.

    Where nothing advances for `stall_seconds` (None: for ever) the process prints where all of its threads stand and is gone: a
    collective that waits for a lost rank never comes back. The watch runs without Python's lock; a process that has been stopped
    as a whole is its launcher's to end, who sees by `beats` that it makes no step while `at_work`.
    """

    def __init__(self, inner: Reporter, files: JobFiles, worker: str, stall_seconds: float | None) -> None:
        self._inner, self._file, self._stall = inner, files.worker(worker), stall_seconds
        self._state: dict[str, Any] = {"worker": worker, "host": socket.gethostname(), "pid": os.getpid(), "unit": ""}
        self._state |= {"phase": "", "share": 0.0, "note": "", "beats": 0, "at_work": True}
        self._total, self._done, self._wrote = 1.0, 0.0, 0.0

    def at(self, unit: str) -> None:
        """A unit begins; empty: none."""
        self._state["unit"] = unit
        self._beat(now=True)

    def phase(self, name: str, total: float) -> None:
        """See Reporter."""
        self._inner.phase(name, total)
        self._total, self._done = total, 0.0
        self._state |= {"phase": name, "note": ""}
        self._beat(now=True)

    def advance(self, work: float, note: str | None = None) -> None:
        """See Reporter."""
        self._inner.advance(work, note)
        self._done += work
        if note is not None:
            self._state["note"] = note
        self._beat()

    def say(self, line: str) -> None:
        """See Reporter."""
        self._inner.say(line)

    def close(self) -> None:
        """See Reporter."""
        self._inner.close()
        self._end()

    def stop(self) -> None:
        """See Reporter."""
        self._inner.stop()
        self._end()

    def _beat(self, *, now: bool = False) -> None:
        if self._stall is not None:
            faulthandler.dump_traceback_later(self._stall, exit=True, file=sys.__stderr__ or sys.stderr)
        moment = time.monotonic()
        if now or moment - self._wrote >= _SECONDS_BETWEEN_BEATS:
            self._wrote = moment
            self._state |= {"share": min(1.0, self._done / max(self._total, 1e-9)), "beats": self._state["beats"] + 1}
            paths.write_json(self._file, self._state)

    def _end(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        # What has ended it may be the disk.
        with suppress(OSError):
            paths.write_json(self._file, self._state | {"at_work": False})
