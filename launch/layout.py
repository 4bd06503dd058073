"""Which config the work directory of a study in parts holds: laid out by one launcher at a time, for all who work by it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fteng import paths, record, steer
from fteng.config import Config, to_dict
from fteng.errors import UserError
from fteng.jobs import claims
from fteng.jobs.files import JobFiles, check_file_system
from fteng.locks import is_held, take
from fteng.paths import StudyPaths


@contextmanager
def laying_out(files: JobFiles, config: Config, command: str, busy: Callable[[], bool]) -> Iterator[None]:
    """The config for whoever works, and nobody else's until the block ends. busy: whether a scheduler has jobs of it.

    Raises UserError where it is not that of the work directory, or changes under running jobs.
    """
    try:
        files.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(files.root.parent, str(error.strerror)) from None
    check_file_system(files)
    laying = take(files.laying, wait=True)
    assert laying is not None, "waiting takes it"
    try:
        # Alone while it is laid out, then one of several that want the same.
        alone = take(files.launchers)
        if alone is not None:
            os.close(alone)
        _lay_out(files, config, command, busy=alone is None or busy())
        mine = take(files.launchers, shared=True)
        assert mine is not None, "held by others for moments alone, and not while we lay out"
    finally:
        os.close(laying)
    try:
        yield
    finally:
        os.close(mine)


def unwritable(workdir: Path, why: str) -> UserError:
    """What to tell whoever cannot write there."""
    return UserError(f"cannot write to the work directory {workdir} ({why}); choose another with --workdir")


def _lay_out(files: JobFiles, config: Config, command: str, *, busy: bool) -> None:
    # Who works, or waits to, does so by the config that is there.
    live = busy or any(is_held(lock) for lock in files.root.glob("workers/*.lock"))
    if not live and is_held(files.root.parent / "lock"):
        raise UserError(f"a study of one process is running in {files.root.parent}; wait for it, or choose another --workdir")
    now = to_dict(config)
    if files.config.exists():
        before = to_dict(claims.submitted(files)[0])
        other = record.differing(before, now)
        if other:
            raise UserError(
                f"{files.root.parent} holds a study with other settings: {', '.join(other)}; choose another --workdir, or delete"
                " this one"
            )
        changed = [name for name in before if before[name] != now[name] and name != "launch"]
        if live and changed:
            raise UserError(
                f"the config has changed since the jobs of {files.root.parent} were submitted ({', '.join(changed)}); let them end,"
                f" or run python -m launch.sweep cancel --workdir={files.root.parent} first"
            )
    if not live:
        files.cancelled.unlink(missing_ok=True)
        # Nobody works: results may have been deleted by hand, so everything is looked at again.
        files.ledger.unlink(missing_ok=True)
        added = list(steer.read(StudyPaths(files.root.parent)).added)
        paths.write_json(files.config, {"config": now, "command": command, "added": added})
