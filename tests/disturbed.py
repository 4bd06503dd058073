"""`python -m fteng.main` as the second of two processes, disturbed at its second step: DISTURB is `raise` or `terminate`."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from fteng import distributed, main

begin = distributed.start


def start() -> None:
    begin()
    # Only now, since it imports jax.
    from fteng.sweep import run

    advance = run.advance

    def disturbed(bench: Any, members: Any, inputs: Any, upto: int, on_step: Callable[[Any], None]) -> None:
        def told(live: Any) -> None:
            on_step(live)
            if live[0].step == 2:
                if os.environ["DISTURB"] == "raise":
                    raise RuntimeError("broken on purpose")
                os.kill(os.getpid(), signal.SIGTERM)

        advance(bench, members, inputs, upto, told)

    run.advance = disturbed


if __name__ == "__main__":
    distributed.start = start
    sys.exit(distributed.leave(main.main(sys.argv)))
