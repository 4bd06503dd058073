"""Where the parts of a study leave their state: WORKDIR/launch. Imports no jax."""

import os
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from fteng import locks, paths
from fteng.errors import UserError


class JobFiles(NamedTuple):
    """The files below `WORKDIR/launch`; all of them may go once the study has ended."""

    root: Path

    @property
    def config(self) -> Path:
        """The config as submitted, and the command."""
        return self.root / "config.json"

    @property
    def surveyed(self) -> Path:
        """The config whose survey has ended, written last by it."""
        return self.root / "surveyed.json"

    @property
    def plan(self) -> Path:
        """The units, and whether they are a race."""
        return self.root / "plan.json"

    @property
    def mutex(self) -> Path:
        """Held for moments, while somebody decides."""
        return self.root / "mutex"

    @property
    def laying(self) -> Path:
        """Held by a launcher for moments, while it compares its config with the one there and writes it."""
        return self.root / "laying.lock"

    @property
    def launchers(self) -> Path:
        """Held by every launcher as long as it lives, shared: the config is theirs."""
        return self.root / "launchers.lock"

    @property
    def submitting(self) -> Path:
        """Held by a launcher while it submits to a scheduler; where it is missing, none ever has."""
        return self.root / "submit.lock"

    @property
    def ledger(self) -> Path:
        """One line a turn of a unit, `begun NAME`, `free NAME`, `done NAME` or `failed NAME`: so that who looks for work opens one
        file, not one a unit. What it says is a hint; locks and results decide."""
        return self.root / "ledger"

    @property
    def cancelled(self) -> Path:
        """It exists = nobody begins anything more."""
        return self.root / "cancelled"

    @property
    def logs(self) -> Path:
        """Folder of what the processes printed."""
        return self.root / "logs"

    def held(self, unit: str) -> Path:
        """Locked by the process that runs the unit."""
        return self.root / "units" / f"{unit}.lock"

    def history(self, unit: str) -> Path:
        """One JSON line an event."""
        return self.root / "units" / f"{unit}.jsonl"

    def worker(self, name: str) -> Path:
        """What a worker is at; see `beat`."""
        return self.root / "workers" / f"{name}.json"

    def slot(self, name: str) -> Path:
        """Locked by the worker of that name."""
        return self.root / "workers" / f"{name}.lock"


def decide(files: JobFiles) -> AbstractContextManager[None]:
    """For moments alone: nobody else decides on units meanwhile."""
    return locks.held(files.mutex)


def check_file_system(files: JobFiles) -> None:
    """Raises UserError where files of this folder cannot be replaced at once, or locked, or written at all."""
    probe = files.root / f".probe-{os.getpid()}-{time.monotonic_ns()}"
    try:
        for text in ("one", "two"):
            paths.write_text(probe, text)
        if probe.read_text(encoding="utf-8") != "two":
            raise UserError(f"the file system of {files.root} does not replace files at once; choose another --workdir")
        with decide(files):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {files.root} ({error.strerror}); choose another --workdir") from None
    finally:
        probe.unlink(missing_ok=True)
