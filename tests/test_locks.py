import os
import threading

import pytest

from fteng import locks
from fteng.errors import UserError
from fteng.locks import held, is_held, take


def test_a_lock_is_seen_from_outside(tmp_path):
    lock = tmp_path / "folder" / "lock"
    assert not is_held(lock)
    handle = take(lock)
    assert handle is not None
    assert is_held(lock)
    assert take(lock) is None
    os.close(handle)
    assert not is_held(lock)


def test_shared_holders_keep_out_who_wants_it_alone(tmp_path):
    lock = tmp_path / "lock"
    first, second = take(lock, shared=True), take(lock, shared=True)
    assert first is not None
    assert second is not None
    assert take(lock) is None
    os.close(first)
    assert take(lock) is None
    os.close(second)
    assert not is_held(lock)


def test_who_waits_is_called_until_the_holder_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_SECONDS_BETWEEN_TRIES", 0.01)
    lock, calls = tmp_path / "lock", threading.Semaphore(0)
    handle = take(lock)
    assert handle is not None
    entered: list[bool] = []

    def wait() -> None:
        with held(lock, calls.release):
            entered.append(is_held(lock))

    waiting = threading.Thread(target=wait)
    waiting.start()
    for _ in range(3):
        assert calls.acquire(timeout=10)
    assert not entered
    os.close(handle)
    waiting.join(10)
    assert entered == [True]
    assert not is_held(lock)


def test_a_file_system_without_locks_is_one_line(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fteng.locks.fcntl.flock", no_locks)
    with pytest.raises(UserError, match="has no file locks"), held(tmp_path / "lock"):
        pass
