"""`python -m fteng.main` whose race sees, of the trials that stand already, those alone that it asks for, as if it had trained
them. For `benchmarks.race`."""

import sys

from fteng import distributed
from fteng import main as command
from fteng.config import Config
from fteng.process import prepare_process


def _prepare(config: Config) -> None:
    """JAX may be imported from here on."""
    prepare_process(config)
    from fteng.race import run

    def ended(self: run._Race) -> set[str]:
        del self
        return set()

    run._Race._ended = ended


if __name__ == "__main__":
    command.prepare_process = _prepare
    sys.exit(distributed.leave(command.main(sys.argv)))
