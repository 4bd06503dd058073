"""Where a study keeps its files, and how a file is written so that a reader never sees half of it. Imports no jax."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fteng.errors import UserError
from fteng.locks import take


class TrialPaths(NamedTuple):
    """The files of one trial below `WORKDIR/trials/ID`."""

    root: Path

    @property
    def result(self) -> Path:
        """Written last and by rename: it exists = nothing trains it now; its `status` says how it ended, `stopped` may go on."""
        return self.root / "result.json"

    def read_result(self, *names: str) -> dict[str, Any]:
        """`result`, which has `names`. Raises UserError where it is damaged."""
        return read_record(self.result, *names, mend="delete it, and its trial is run again")

    def status(self) -> str | None:
        """How `result` says that the trial ended; None: there is none. Raises UserError where it is damaged."""
        if not self.result.exists():
            return None
        status = self.read_result("status")["status"]
        if not isinstance(status, str):
            raise UserError(f"{self.result} is damaged (its status is {status!r}); delete it, and its trial is run again")
        return status

    @property
    def metrics(self) -> Path:
        """One JSON line an evaluation."""
        return self.root / "metrics.jsonl"

    @property
    def predictions(self) -> Path:
        """One row a val and test image."""
        return self.root / "predictions.parquet"

    def rung(self, epoch: int) -> Path:
        """In a race: its answers to val after so many epochs."""
        return self.root / f"rung{epoch}.parquet"

    @property
    def running(self) -> Path:
        """Orbax's checkpoints of a trial that has not ended: what trains, optimizer, position."""
        return self.root / "checkpoints" / "running"

    @property
    def parent(self) -> Path:
        """Of a clone: Orbax's checkpoint that it starts from, its parent's."""
        return self.root / "parent"

    @property
    def final(self) -> Path:
        """Orbax's checkpoint of a trial that has ended: what trained, and the statistics that followed it."""
        return self.root / "checkpoints" / "final"


class StudyPaths(NamedTuple):
    """The files of one study below the work directory."""

    root: Path

    @property
    def study(self) -> Path:
        """Config as run, versions, device, git revision, data counts; written first."""
        return self.root / "study.json"

    @property
    def images(self) -> Path:
        """One row an image: id, group, label, split, and what the source says of it (age, sex, site, licence)."""
        return self.root / "images.parquet"

    @property
    def probes(self) -> Path:
        """Folder: result.json (profile and probe of every tap), heads.npz, one predictions file a tap."""
        return self.root / "probes"

    @property
    def surveyed(self) -> Path:
        """Profile and probe of every tap; it exists = there is nothing left to probe."""
        return self.probes / "result.json"

    @property
    def similarity(self) -> Path:
        """How like the source the data are, and what was advised before the sweep."""
        return self.probes / "similarity.json"

    def heads(self, start: str) -> Path:
        """Of every tap's probe, `pretrained` alone; of another start, its numbers too."""
        return self.probes / ("heads.npz" if start == "pretrained" else f"start-{start}.npz")

    def probe(self, tap: str) -> Path:
        """Answers of a tap's probe, one row a val and test image."""
        return self.probes / f"{tap}.parquet"

    @property
    def trials(self) -> Path:
        """Folder of trials."""
        return self.root / "trials"

    @property
    def prefix(self) -> Path:
        """Folder of activations kept on disk while trials run."""
        return self.root / "prefix"

    @property
    def race(self) -> Path:
        """Decisions of a race and what they rest on."""
        return self.root / "race.json"

    @property
    def steering(self) -> Path:
        """What its user asks of the study beside its config, also while it runs."""
        return self.root / "steering.json"

    @property
    def launch(self) -> Path:
        """Folder of what a study in parts needs to know while it runs."""
        return self.root / "launch"

    @property
    def report(self) -> Path:
        """Folder of the page and all that is in it."""
        return self.root / "report"

    @property
    def page(self) -> Path:
        """One self-contained page."""
        return self.report / "index.html"

    @property
    def summary(self) -> Path:
        """All numbers of the page."""
        return self.report / "summary.json"

    @property
    def explained(self) -> Path:
        """What only the networks can tell the page: saliency, and what tuning changed in each stage."""
        return self.root / "explained.json"

    def trial(self, trial_id: str) -> TrialPaths:
        """The files of one trial."""
        return TrialPaths(self.trials / trial_id)


def write_text(path: Path, text: str) -> None:
    """`write_by` of text."""
    write_by(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def write_by(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside, flush it to disk, rename: at any moment `path` is absent, old or whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays: numpy would add its own. Another machine may have a process of the same number: the name is drawn.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=f".{path.name}")
    os.close(handle)
    beside = Path(name)
    try:
        write(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        # mkstemp makes the file private; a study is shared like any other file of its user.
        umask = os.umask(0)
        os.umask(umask)
        beside.chmod(0o666 & ~umask)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """`write_text` of indented JSON. Not-a-number is an error here: undefined is null."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The value of a JSON file. Raises UserError that names a file which is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); delete it and run the same command again") from None


def read_record(path: Path, *names: str, mend: str = "delete it and run the same command again") -> dict[str, Any]:
    """The mapping of a JSON file that has `names`. Raises UserError where it is no JSON, or another one; mend: what to do then."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(f"{path} is not JSON; {mend}") from None
    lost = list(names) if not isinstance(value, dict) else [name for name in names if name not in value]
    if lost or not isinstance(value, dict):
        raise UserError(f"{path} is damaged, or of another version of fteng (it lacks {', '.join(lost) or 'everything'}); {mend}")
    return value


def digest(value: Any) -> str:
    """sha256 (hex) of a JSON-like value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


@contextmanager
def work_directory(root: Path, *, shared: bool = False, wait: bool = False) -> Iterator[StudyPaths]:
    """The study's files, held by this process alone until the block ends; shared: together with others that run parts of it; wait:
    for whoever holds it.

    Raises UserError when another process holds the directory or it cannot be written.
    """
    lock = root / "lock"
    try:
        handle = take(lock, wait=wait, shared=shared)
    except OSError as error:
        raise UserError(f"cannot write to the work directory {root} ({error.strerror}); choose another with --workdir") from None
    if handle is None:
        holder = lock.read_text(encoding="utf-8")
        who = f"another study (process {holder})" if holder else "a study in parts, or another one,"
        raise UserError(f"{who} is running in {root}; wait for it, or choose another --workdir")
    try:
        os.ftruncate(handle, 0)
        if not shared:
            os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield StudyPaths(root)
    finally:
        os.close(handle)
