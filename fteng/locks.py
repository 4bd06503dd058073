"""File locks that the kernel drops with the process that holds them, however it ends: nothing is left to clean up."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fteng.errors import UserError

_SECONDS_BETWEEN_TRIES = 0.2


def take(lock: Path, *, wait: bool = False, shared: bool = False) -> int | None:
    """An open descriptor that holds the lock until it is closed or the process ends; None: it is held.

    Raises UserError where the file system has no locks, OSError where the file cannot be made.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError as error:
        os.close(handle)
        raise UserError(
            f"the file system of {lock.parent} has no file locks ({error.strerror}); choose a folder on one that has, for a study"
            " with --workdir"
        ) from None
    except BaseException:
        os.close(handle)
        raise
    return handle


def is_held(lock: Path) -> bool:
    """Whether some process holds it now."""
    if not lock.exists():
        return False
    handle = take(lock, shared=True)
    if handle is not None:
        os.close(handle)
    return handle is None


@contextmanager
def held(lock: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Alone with what the lock stands for, once whoever holds it is done. on_wait: called again and again until then."""
    handle = take(lock, wait=on_wait is None)
    while handle is None:
        assert on_wait is not None, "waiting takes it"
        on_wait()
        time.sleep(_SECONDS_BETWEEN_TRIES)
        handle = take(lock)
    try:
        yield
    finally:
        os.close(handle)
