"""What ends a command without a traceback: what a user can mend, and being asked to stop. Imports no jax."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")


class UserError(Exception):
    """Bad input: its text is one line that says what, got, allowed and what to do next; several faults are a line each, and an
    indented line belongs to the one above.

    A command (`says_user_errors`) prints it without a traceback and ends with status 2; everything else that escapes is a defect
    of fteng.
    """


class Interrupted(Exception):  # noqa: N818 - not an error: the study was asked to stop
    """The study was asked to stop; what there is of it is on disk."""


def says_user_errors(main: Callable[P, int]) -> Callable[P, int]:
    """A command's function from its arguments to its exit status, where a UserError becomes `fteng: LINE` on stderr, a fault a
    line, and the status 2."""

    @functools.wraps(main)
    def run(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return main(*args, **kwargs)
        except UserError as error:
            for line in str(error).split("\n"):
                # As it is, a command that it names can be copied.
                print(line if line.startswith(" ") else f"fteng: {line}", file=sys.stderr)
            return 2

    return run
