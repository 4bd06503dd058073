"""What stands on disk of a trial that has not ended is read, refused or set aside; it is never thrown away."""

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fteng.errors import UserError
from fteng.train import checkpoint
from fteng.train.checkpoint import Checkpoints, read_final, save_final

# Some reads of tensorstore end when asyncio's loop, in which another one has failed, is gone; it may be in the next test.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

OURS = {"backbone": "ours", "weights": "w"}
# The second is of a size that tensorstore gives a file of its own.
STATE: dict[str, Any] = {"trainable": {"bias": jnp.arange(6.0).reshape(2, 3), "kernel": jnp.arange(3000.0)}, "step": jnp.int32(0)}


def at(step: int):
    return STATE | {"step": jnp.int32(step)}


def saved(folder: Path, *steps: int) -> dict[Path, bytes]:
    """The files of checkpoints of these steps."""
    checkpoints = Checkpoints(folder, OURS)
    for step in steps:
        checkpoints.save(step, at(step), {"seconds": float(step)})
    checkpoints.wait()
    checkpoints.close()
    return files(folder)


def files(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def restored(folder: Path, template: Any = STATE, frozen: dict[str, str] = OURS) -> tuple[Any, list[str]]:
    """(what is restored, what is said)."""
    told: list[str] = []
    checkpoints = Checkpoints(folder, frozen)
    try:
        return checkpoints.restore(template, told.append), told
    finally:
        checkpoints.close()


def test_the_newest_is_restored_with_its_position(tmp_path):
    saved(tmp_path, 1, 2)
    found, told = restored(tmp_path)
    assert told == []
    assert found.position == {"seconds": 2.0, "frozen": OURS}
    jax.tree.map(np.testing.assert_array_equal, found.state, at(2))


@pytest.mark.parametrize("shape", [(2, 3), (2, 4)])
def test_that_of_another_network_is_refused_and_stays(tmp_path, shape):
    before = saved(tmp_path, 1, 2)
    template = {**STATE, "trainable": {**STATE["trainable"], "bias": jnp.zeros(shape)}}
    with pytest.raises(UserError, match=r"continues .*'ours'.*, not .*'theirs'.*; delete the folder"):
        restored(tmp_path, template, OURS | {"backbone": "theirs"})
    assert files(tmp_path) == before


def _break(monkeypatch: pytest.MonkeyPatch, error: BaseException, item: str) -> None:
    """Orbax fails to read one of the two items of a checkpoint."""
    restore = checkpoint.ocp.Checkpointer.restore

    def broken(self: Any, folder: Path, args: Any) -> Any:
        if folder.name == item:
            raise error
        return restore(self, folder, args=args)

    monkeypatch.setattr(checkpoint.ocp.Checkpointer, "restore", broken)


def _wrapped(text: str) -> Exception:
    """As Orbax wraps what tensorstore raises in the midst of an array."""
    error = Exception("Encountered error while reading array index: (slice(0, 6, 1),). See full TensorStore details: ...")
    error.__cause__ = ValueError(text)
    return error


@pytest.mark.parametrize("item", ["position", "state"])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EIO, os.strerror(errno.EIO)), "Input/output error"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES)), "Permission denied"),
        (MemoryError(), "MemoryError"),
        # What tensorstore 0.1 raises where pread fails so.
        (
            _wrapped("UNKNOWN: Error opening \"zarr\" driver: Error reading Byte range [0, 9): Input/output error [spec='{}']"),
            "Input/output error",
        ),
    ],
)
def test_what_cannot_be_read_now_stays(tmp_path, monkeypatch, item, error, said):
    before = saved(tmp_path, 1, 2)
    with monkeypatch.context() as patched:
        _break(patched, error, item)
        with pytest.raises(UserError, match=rf"step 2 cannot be read now \({said}\); nothing is deleted: run the same") as caught:
            restored(tmp_path)
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == before
    assert restored(tmp_path)[0].position["seconds"] == 2.0


@pytest.mark.parametrize("way", ["cut", "empty", "gone"])
@pytest.mark.parametrize("item", ["position/metadata", "state/manifest.ocdbt", "state/d/*"])
def test_a_damaged_one_is_set_aside_for_the_one_before(tmp_path, way, item):
    saved(tmp_path, 1, 2)
    for file in (tmp_path / "2").glob(item):
        whole = file.read_bytes()
        file.unlink()
        if way != "gone":
            file.write_bytes(whole[: len(whole) // 2] if way == "cut" else b"")
    damaged = files(tmp_path / "2")
    found, told = restored(tmp_path)
    assert (found.position["seconds"], len(told)) == (1.0, 1)
    assert "step 2 is damaged" in told[0]
    assert "now damaged-2" in told[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "damaged-2"]
    assert files(tmp_path / "damaged-2") == damaged


def test_a_step_that_was_set_aside_is_saved_again_and_may_break_again(tmp_path):
    saved(tmp_path, 1, 2)
    for _ in range(2):
        (tmp_path / "2" / "position" / "metadata").unlink()
        told: list[str] = []
        checkpoints = Checkpoints(tmp_path, OURS)
        found = checkpoints.restore(STATE, told.append)
        assert found is not None
        assert int(found.state["step"]) == 1
        for step in (2, 3):
            checkpoints.save(step, at(step), {"seconds": float(step)})
        checkpoints.close()
        # Orbax keeps the last two of those that it knows, and does not know what was set aside.
        assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3", "damaged-2"]
        assert restored(tmp_path)[0].position["seconds"] == 3.0
        shutil.rmtree(tmp_path / "3")
        saved(tmp_path / "again", 1)
        (tmp_path / "again" / "1").rename(tmp_path / "1")
        shutil.rmtree(tmp_path / "again")


def test_without_a_whole_one_all_is_set_aside_and_nothing_restored(tmp_path):
    saved(tmp_path, 1, 2)
    for step in ("1", "2"):
        (tmp_path / step / "position" / "metadata").write_text("null")
    found, told = restored(tmp_path)
    assert found is None
    assert len(told) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged-1", "damaged-2"]


def test_an_end_that_lacks_a_leaf_cannot_be_read(tmp_path):
    save_final(tmp_path / "final", {"trainable": STATE["trainable"]})
    found = read_final(tmp_path / "final", {"trainable": STATE["trainable"]})
    jax.tree.map(np.testing.assert_array_equal, found["trainable"], STATE["trainable"])
    more = {"trainable": {**STATE["trainable"], "scale": jnp.ones(3)}}
    with pytest.raises(UserError, match=r"final cannot be read \(KeyError\); delete the trial's folder, run again"):
        read_final(tmp_path / "final", more)


def test_an_end_that_cannot_be_read_now_is_not_to_be_deleted(tmp_path, monkeypatch):
    save_final(tmp_path / "final", STATE)

    def broken(*_: Any, **__: Any) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(checkpoint.ocp.Checkpointer, "restore", broken)
    with pytest.raises(UserError, match=r"cannot be read \(Stale file handle\); run the same command again$"):
        read_final(tmp_path / "final", STATE)


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path, monkeypatch):
    before = saved(tmp_path / "running", 1)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: usage(1 << 40, 1 << 40, 1 << 20))
    checkpoints = Checkpoints(tmp_path / "running", OURS)
    with pytest.raises(UserError, match=r"disk of .*running is full: a checkpoint needs 1 MiB, 1 MiB are free; .* make room"):
        checkpoints.save(2, at(2), {})
    checkpoints.close()
    with pytest.raises(UserError, match="is full"):
        save_final(tmp_path / "final", STATE)
    assert files(tmp_path / "running") == before
    assert not (tmp_path / "final").exists()
    # A byte more than is needed.
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(STATE)) + (1 << 20)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: usage(1 << 40, 0, needed))
    save_final(tmp_path / "final", STATE)
    assert (tmp_path / "final").exists()
