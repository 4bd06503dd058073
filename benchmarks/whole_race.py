"""`python -m fteng.main` whose race stops nothing: every trial goes to its end with its answers at every rung, so that a race can
be decided on them without training. For `benchmarks.race`."""

import sys

from fteng import distributed
from fteng import main as command
from fteng.config import Config
from fteng.process import prepare_process
from fteng.race import decide
from fteng.race.field import Field, Way


def _order(self: Field) -> list[Way]:
    return list(self.ways)


def _prepare(config: Config) -> None:
    """JAX may be imported from here on."""
    prepare_process(config)
    from fteng.race.course import Course

    def run(self: Course) -> list[decide.Standing]:
        return decide.ranked(self._run(list(self._arms)) or [], self._judge)

    Course.run, Field.order = run, _order
    decide.can_win = lambda *_: decide.Verdict(True, "nothing is stopped")


if __name__ == "__main__":
    command.prepare_process = _prepare
    sys.exit(distributed.leave(command.main(sys.argv)))
