"""Counts the programs XLA compiles in this process, so that a second compilation of a known shape cannot hide."""

from collections.abc import Callable

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"


def count_compilations() -> Callable[[], int]:
    """A function that says how many programs were compiled, or fetched from the persistent cache, since this call."""
    counted = 0

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:  # noqa: ARG001 - jax calls it by name
        nonlocal counted
        counted += event == _EVENT

    jax.monitoring.register_event_duration_secs_listener(listen)
    return lambda: counted
