"""A study in parts on this machine: a process a device, and a witness that starts again what dies."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fteng.jobs.claims import record_death
from fteng.jobs.files import JobFiles, is_held
from fteng.paths import StudyPaths
from fteng.process import BUSY, STOPPED

# Between two looks at the processes.
_SECONDS = 0.5
# A worker that ends so often before it has begun a unit does not end for a unit's sake.
_DEATHS = 3


class Ended(Exception):  # noqa: N818 - how it ended, not an error of ours
    """A process ended as it should not; status: what the launcher ends with."""

    def __init__(self, line: str, status: int) -> None:
        super().__init__(line)
        self.status = status


def devices() -> int:
    """GPUs of this machine, as the driver lists them; none: 0."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    listed = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines()) if listed.returncode == 0 else 0


class Local:
    """Processes of one study on this machine. watch: called while they run."""

    def __init__(self, workdir: Path, watch: Callable[[], None]) -> None:
        self._workdir, self._watch = workdir, watch
        self._files = JobFiles(StudyPaths(workdir).launch)
        self._host = socket.gethostname().partition(".")[0]
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, workers: int, gpus: int, surveyed: Callable[[], bool]) -> None:
        """The first worker begins with the survey, so many go on from there; until nothing is left. Raises Ended."""
        waiting, deaths = {f"{self._host}-{slot}": slot for slot in range(workers)}, 0
        while waiting or self._running:
            for name, slot in list(waiting.items()):
                # Left over by a launcher that was killed: it goes on by itself, and is ours to wait for.
                if (slot == 0 or surveyed()) and not is_held(self._files.slot(name)):
                    device = {"CUDA_VISIBLE_DEVICES": self._device(slot % gpus)} if gpus else {}
                    self._running[name] = self._start(name, device)
                    del waiting[name]
            time.sleep(_SECONDS)
            self._watch()
            for name, process in list(self._running.items()):
                status = process.poll()
                if status is None:
                    continue
                del self._running[name]
                if status in (2, STOPPED):
                    self.stop()
                    raise Ended(self._last_line(name), status)
                if status not in (0, BUSY):
                    deaths = deaths + 1 if not self._witness(name, status) else 0
                    if deaths >= _DEATHS:
                        self.stop()
                        raise Ended(f"fteng: {_said(status)} {deaths} times before any trial; its log: {self._log(name)}", 1)
                if status:
                    # Busy: another launcher was quicker.
                    waiting[name] = int(name.rpartition("-")[2])

    def _witness(self, name: str, status: int) -> list[str]:
        """Writes down what died; the units it was at."""
        return record_death(self._files, name, f"{_said(status)}: {self._last_line(name)}")

    def stop(self) -> None:
        """Ask all to save and leave; wait until they have."""
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            process.wait()

    def _device(self, index: int) -> str:
        """What the user's own choice of devices calls it."""
        chosen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        return chosen.split(",")[index % len(chosen.split(","))] if chosen else str(index)

    def _start(self, name: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        self._files.logs.mkdir(parents=True, exist_ok=True)
        with self._log(name).open("ab") as log:
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
        lines = [line for line in self._log(name).read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        said = [line for line in lines if line.startswith("fteng: ")]
        return (said or lines or ["(nothing in its log)"])[-1]


def _said(status: int) -> str:
    return f"a worker ended by signal {-status}" if status < 0 else f"a worker ended with status {status}"
