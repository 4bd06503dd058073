"""How far a study is: a live bar on a terminal, plain lines elsewhere. Imports no jax."""

import sys
import time
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# Plain lines go into log files: often enough to see life, rarely enough to read.
_SECONDS_BETWEEN_LINES = 10.0


class Reporter(Protocol):
    """What the study tells. Work is in units of one's own choice, the same within a phase."""

    def phase(self, name: str, total: float) -> None:
        """A new phase begins, with `total` units of work."""
        ...

    def advance(self, work: float, note: str | None = None) -> None:
        """`work` more units are done; `note` replaces what stands beside the bar."""
        ...

    def say(self, line: str) -> None:
        """One line that stays."""
        ...

    def close(self) -> None:
        """The last phase ends."""
        ...

    def stop(self) -> None:
        """Something went wrong: nothing more is shown, and the phase is not called done."""
        ...


def make_reporter(stream: TextIO = sys.stderr) -> Reporter:
    """The reporter that fits the stream."""
    return LiveReporter(stream) if stream.isatty() else PlainReporter(stream)


class LiveReporter:
    """One bar a phase, with elapsed and remaining time."""

    def __init__(self, stream: TextIO) -> None:
        self._bars = Progress(
            TextColumn("{task.description:>9}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(file=stream),
        )
        self._bars.start()
        self._task: TaskID | None = None

    def phase(self, name: str, total: float) -> None:
        """See Reporter."""
        self._finish()
        self._task = self._bars.add_task(name, total=total, note="")

    def advance(self, work: float, note: str | None = None) -> None:
        """See Reporter."""
        assert self._task is not None, "advance before phase"
        self._bars.advance(self._task, work)
        if note is not None:
            self._bars.update(self._task, note=note)

    def say(self, line: str) -> None:
        """See Reporter."""
        self._bars.console.print(line, markup=False, highlight=False)

    def close(self) -> None:
        """See Reporter."""
        self._finish()
        self._bars.stop()

    def stop(self) -> None:
        """See Reporter."""
        self._bars.stop()

    def _finish(self) -> None:
        if self._task is not None:
            self._bars.stop_task(self._task)


class PlainReporter:
    """A line at the begin of each phase, and one every ten seconds within it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._name, self._total, self._done, self._note = "", 0.0, 0.0, ""
        self._started = self._spoke = time.monotonic()

    def phase(self, name: str, total: float) -> None:
        """See Reporter."""
        self.close()
        self._name, self._total, self._done, self._note = name, total, 0.0, ""
        self._started = self._spoke = time.monotonic()

    def advance(self, work: float, note: str | None = None) -> None:
        """See Reporter."""
        self._done += work
        self._note = self._note if note is None else note
        now = time.monotonic()
        if now - self._spoke >= _SECONDS_BETWEEN_LINES:
            self._spoke = now
            left = (now - self._started) * (self._total - self._done) / max(self._done, 1e-9)
            share = self._done / max(self._total, 1e-9)
            self.say(f"{self._name}: {share:.0%}, {left:.0f} s left{f', {self._note}' if self._note else ''}")

    def say(self, line: str) -> None:
        """See Reporter."""
        print(line, file=self._stream, flush=True)

    def close(self) -> None:
        """See Reporter."""
        if self._name:
            note = f", {self._note}" if self._note else ""
            self.say(f"{self._name}: done in {time.monotonic() - self._started:.1f} s{note}")
            self._name = ""

    def stop(self) -> None:
        """See Reporter."""
        self._name = ""
