"""A study in parts on this machine: a process a device, and a witness that starts again what dies."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path

from fteng import paths
from fteng.jobs.claims import record_death
from fteng.jobs.files import JobFiles
from fteng.locks import is_held
from fteng.paths import StudyPaths
from fteng.process import BUSY, STOPPED, WORKERS_HERE

# Between two looks at the processes.
_SECONDS = 0.5
# A worker that ends so often before it has begun a unit does not end for a unit's sake.
_DEATHS = 3
# Longer than a worker's own watch takes, which can tell where it stands.
_GRACE = 10.0
# How a line begins that says why a process ends: ours, and that of the watch in fteng.jobs.beat.
_REASONS = ("fteng: ", "Timeout (")


class Ended(Exception):  # noqa: N818 - how it ended, not an error of ours
    """A process ended as it should not; status: what the launcher ends with."""

    def __init__(self, line: str, status: int) -> None:
        super().__init__(line)
        self.status = status


def devices() -> list[str]:
    """GPUs of this machine as CUDA_VISIBLE_DEVICES names them: those that the user has chosen, else all that the driver lists."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        # As CUDA reads it: what cannot be a device ends the list.
        return list(takewhile(lambda name: name not in ("", "-1"), (part.strip() for part in chosen.split(","))))
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    listed = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines()) if listed.returncode == 0 else 0
    return [str(index) for index in range(count)]


class Local:
    """Processes of one study on this machine. watch: called while they run; stall_seconds: one that makes no step for so long is
    killed."""

    def __init__(self, workdir: Path, watch: Callable[[], None], stall_seconds: float) -> None:
        self._workdir, self._watch, self._stall = workdir, watch, stall_seconds
        self._files = JobFiles(StudyPaths(workdir).launch)
        self._host = socket.gethostname().partition(".")[0]
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        # Sizes of their logs when they began: what stood there is of others.
        self._logged: dict[str, int] = {}
        # (beat, when we first saw it, by our own clock).
        self._seen: dict[str, tuple[int, float]] = {}
        self._hung: set[str] = set()

    def run(self, workers: int, gpus: Sequence[str], surveyed: Callable[[], bool]) -> None:
        """The first worker begins with the survey, so many go on from there; until nothing is left. gpus: their ids, a worker each.
        However it ends, no worker of ours is left. Raises Ended."""
        try:
            self._run(workers, gpus, surveyed)
        except BaseException as error:
            killed = self.stop()
            if killed and isinstance(error, KeyboardInterrupt):
                line = (
                    f"fteng: stopped; killed before they had saved: {', '.join(killed)}; the same command goes on from their last"
                )
                raise Ended(f"{line} checkpoints", STOPPED) from None
            raise

    def _run(self, workers: int, gpus: Sequence[str], surveyed: Callable[[], bool]) -> None:
        waiting, deaths = {f"{self._host}-{slot}": slot for slot in range(workers)}, 0
        while waiting or self._running:
            for name, slot in list(waiting.items()):
                # Left over by a launcher that was killed: it goes on by itself, and is ours to wait for.
                if (slot == 0 or surveyed()) and not is_held(self._files.slot(name)):
                    device = {"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {}
                    self._running[name] = self._start(name, device | {WORKERS_HERE: str(workers)})
                    del waiting[name]
            time.sleep(_SECONDS)
            self._watch()
            self._kill_hung()
            for name, process in list(self._running.items()):
                status = process.poll()
                if status is None:
                    continue
                del self._running[name]
                if status == STOPPED and self._files.cancelled.exists():
                    raise cancelled()
                if status in (2, STOPPED):
                    raise Ended(self._last_line(name), status)
                if status not in (0, BUSY):
                    deaths = deaths + 1 if not self._witness(name, status) else 0
                    if deaths >= _DEATHS:
                        raise Ended(f"fteng: {_said(status)} {deaths} times before any trial; its log: {self._log(name)}", 1)
                if status:
                    # Busy: another launcher was quicker.
                    waiting[name] = int(name.rpartition("-")[2])

    def _witness(self, name: str, status: int) -> list[str]:
        """Writes down what died; the units it was at."""
        hung = name in self._hung
        self._hung.discard(name)
        why = f"made no step for {self._stall / 60:g} minutes" if hung else f"{_said(status)}: {self._last_line(name)}"
        return record_death(self._files, name, why)

    def _kill_hung(self) -> None:
        """Their own watch does not run where the whole process is stopped."""
        moment = time.monotonic()
        for name, process in self._running.items():
            file = self._files.worker(name)
            beat = paths.read_record(file, "pid", "beats", "at_work") if file.exists() else {"pid": 0}
            # Before its first beat the file is of the worker before; between its parts nothing has to advance.
            if beat["pid"] != process.pid or not beat["at_work"]:
                self._seen.pop(name, None)
                continue
            beats, since = self._seen.get(name, (-1, moment))
            self._seen[name] = (beat["beats"], since if beats == beat["beats"] else moment)
            if moment - self._seen[name][1] > self._stall + _GRACE and name not in self._hung:
                self._hung.add(name)
                process.kill()

    def stop(self) -> list[str]:
        """Ask all to save and leave; who has not when the stall time is over, or Ctrl-C comes again, is killed. Their names."""
        end = time.monotonic() + self._stall + _GRACE
        try:
            for process in self._running.values():
                process.send_signal(signal.SIGTERM)
                process.send_signal(signal.SIGCONT)
            for process in self._running.values():
                process.wait(max(0.0, end - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            # Whoever lives is killed below; what has brought us here goes on its way.
            pass
        finally:
            killed = [name for name, process in self._running.items() if process.poll() is None]
            for name in killed:
                self._running[name].kill()
            for name in killed:
                self._running[name].wait()
        return killed

    def _start(self, name: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        self._files.logs.mkdir(parents=True, exist_ok=True)
        with self._log(name).open("ab") as log:
            self._logged[name] = log.tell()
            return subprocess.Popen(
                [sys.executable, "-m", "fteng.jobs", str(self._workdir), "all", "--worker", name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | environment,
                # Ctrl-C is the launcher's; it passes it on as a request to save.
                start_new_session=True,
            )

    def _log(self, name: str) -> Path:
        return self._files.logs / f"{name}.log"

    def _last_line(self, name: str) -> str:
        """Why it ended, as its log tells since it began."""
        with self._log(name).open("rb") as log:
            log.seek(self._logged[name])
            text = log.read().decode(errors="replace")
        return reason(text) or "(nothing in its log)"


def cancelled() -> Ended:
    """How a launcher ends whose study was cancelled."""
    return Ended("fteng: cancelled; the same command goes on from there", STOPPED)


def reason(text: str) -> str:
    """Why a process ended: the last that it says of itself, or the error of its last traceback; else its last line, if any."""
    lines = [line for line in text.splitlines() if line.strip()]
    said, tracing = lines[-1] if lines else "", False
    for line in lines:
        if line.startswith("Traceback (most recent call last)"):
            tracing = True
        elif line.startswith(_REASONS) or (tracing and not line[0].isspace()):
            said, tracing = line, False
    return said


def _said(status: int) -> str:
    return f"a worker ended by signal {-status}" if status < 0 else f"a worker ended with status {status}"
