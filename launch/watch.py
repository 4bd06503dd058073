"""The standing of a study in parts, shown while others work."""

import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from launch.status import Standing, standing, table

_SECONDS_BETWEEN_LINES = 10.0


class Watch:
    """Shows the standing while others work: a table on a terminal, elsewhere a line when it has changed."""

    def __init__(self, workdir: Path) -> None:
        self._workdir = workdir
        self._console = Console(stderr=True)
        self._live: Callable[[Standing], None] | None = None
        self._next, self._last = 0.0, ""

    def __enter__(self) -> "Watch":
        if self._console.is_terminal:
            from rich.live import Live

            live = Live(console=self._console, refresh_per_second=2)
            live.start()
            self._stop = live.stop
            self._live = lambda now: live.update(table(now))
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._stop()

    def look(self) -> None:
        """Called as often as one likes."""
        moment = time.monotonic()
        if moment < self._next:
            return
        self._next = moment + (1.0 if self._live else _SECONDS_BETWEEN_LINES)
        now = standing(self._workdir)
        if self._live is not None:
            self._live(now)
        elif now.line != self._last:
            self._last = now.line
            self.say(now.line)

    def say(self, line: str) -> None:
        """One line that stays."""
        self._console.print(line, markup=False, highlight=False)
