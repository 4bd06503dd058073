"""What every process that trains begins with, and how it is asked to stop. Imports no jax at the top."""

import atexit
import errno
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

from absl import logging as absl_logging

from fteng.config import Config

# What a process that was asked to stop, and has saved, ends with.
STOPPED = 128 + signal.SIGTERM
# What a worker ends with whose name another process has: not a failure, ask again later (EX_TEMPFAIL of sysexits.h).
BUSY = 75
# Environment variable: how many workers of a launcher share the memory of this machine.
WORKERS_HERE = "FTENG_WORKERS_HERE"
# Environment variable that glibc reads when a process begins, and what of it is about huge pages (=1: ask for them).
TUNABLES, HUGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
_KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# A disk that is full or read-only: the user can mend it, and nothing is lost.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def begin_with_huge_pages() -> None:
    """Begin this process anew, as it was called, with a malloc that asks Linux for huge pages, if it does not ask for them yet and
    Linux gives them to who asks.

    XLA:CPU takes its memory anew at every call, and the kernel clears and maps it page by page, which is much of a train step
    (python -m benchmarks.huge_pages). For the first line of a command: what it had read of its input would be lost. Who has set the
    tunable (0: no huge pages) has chosen, and a debugger is not begun twice.
    """
    tunables = os.environ.get(TUNABLES, "")
    if HUGE_PAGES in tunables or not sys.executable or sys.gettrace() is not None or not _given_on_request():
        return
    os.environ[TUNABLES] = f"{tunables}:{HUGE_PAGES}=1".removeprefix(":")
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _given_on_request() -> bool:
    try:
        return "[madvise]" in _KERNEL.read_text(encoding="ascii") and (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    # Another system, or another C library.
    except (OSError, ValueError):
        return False


def prepare_process(config: Config) -> None:
    """Quiet libraries, and compiled programs kept on disk from run to run."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    absl_logging.set_verbosity(absl_logging.ERROR)
    absl_logging.use_absl_handler()
    # Orbax logs a traceback from its writer thread before it raises the same error to us, where it becomes one line.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    import jax

    from fteng.data.prepare import cache_root

    jax.config.update("jax_compilation_cache_dir", str(cache_root(config.data) / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def stop_on_signal() -> Callable[[], bool]:
    """SIGTERM or Ctrl-C: finish the step, save, leave. A second Ctrl-C leaves at once. Returns whether that was asked for."""
    asked = False

    def handler(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signal module passes both
        nonlocal asked
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not asked:
            # Not print: the signal may have come in the midst of another one.
            os.write(2, b"fteng: asked to stop; saving (Ctrl-C again leaves at once)\n")
        asked = True

    signal.signal(signal.SIGTERM, handler)
    signal.signal(signal.SIGINT, handler)
    return lambda: asked


def end_at_once(status: int) -> NoReturn:
    """End the process now. What a failed write has left behind in other threads must not keep it alive."""
    # Such as the farewell of jax.distributed; only waiting for threads is left out.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
