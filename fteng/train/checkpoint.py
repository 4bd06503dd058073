"""Checkpoints of one trial with Orbax: what trains, its optimizer, where the trial stands. The frozen part is named, not kept."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from fteng.distributed import agree, everyone
from fteng.errors import UserError
from fteng.freeze import partition

Tree = Any
# Beside the arrays: their index, and what else the trial writes.
_SPARE_BYTES = 1 << 20


class Restored(NamedTuple):
    """A checkpoint read back: the state in the structure it was asked for, and the position saved with it."""

    state: Tree
    position: dict[str, Any]


class Checkpoints:
    """Orbax's manager for one folder, asynchronous; the last two steps are kept until the trial ends.

    A tree is stored as a flat mapping from its leaf paths to arrays, so a reader needs no class of ours.
    Every method raises UserError with one line when the disk is full or cannot be written.
    """

    def __init__(self, folder: Path, frozen: dict[str, str]) -> None:
        """`frozen` names the frozen part: backbone and weights digest; a checkpoint of another one is refused."""
        self._frozen = frozen
        self._folder = folder
        options = ocp.CheckpointManagerOptions(preservation_policy=preservation_policy.LatestN(2), save_root_metadata=False)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def restore(self, template: Tree, say: Callable[[str], None]) -> Restored | None:
        """The newest whole checkpoint in the structure of `template` (arrays or shapes), or None where there is none.

        One that cannot be read is passed over for the one before, and `say` is told so.
        """
        for step in agree(sorted(self._manager.all_steps(), reverse=True)):
            restored, kind = None, "elsewhere"
            try:
                restored = self._restore_step(step, template)
            except UserError:
                raise
            except Exception as error:
                kind = type(error).__name__
            if everyone(restored is not None):
                return restored
            say(f"{self._folder}: the checkpoint of step {step} is damaged ({kind}); going on from the one before, or anew")
            self._manager.delete(step)
        return None

    def _restore_step(self, step: int, template: Tree) -> Restored:
        names = _names(template)
        abstract = dict(zip(names, map(ocp.utils.to_shape_dtype_struct, jax.tree.leaves(template)), strict=True))
        restored = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract), position=ocp.args.JsonRestore())
        )
        position = restored["position"]
        if position["frozen"] != self._frozen:
            raise UserError(f"{self._folder} continues {position['frozen']}, not {self._frozen}; delete the folder to start anew")
        leaves = [restored["state"][name] for name in names]
        return Restored(jax.tree.unflatten(jax.tree.structure(template), leaves), position)

    def save(self, step: int, state: Tree, position: dict[str, Any]) -> None:
        """Start to write `state` and `position` in the background; a step that stands already is the same again."""
        if self._manager.latest_step() == step:
            return
        _check_room(self._folder, state)
        flat = dict(zip(_names(state), jax.tree.leaves(state), strict=True))
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(flat), position=ocp.args.JsonSave({**position, "frozen": self._frozen})
        )
        with _one_line(self._folder):
            self._manager.save(step, args=items, force=True)

    def wait(self) -> None:
        """Until everything saved is on disk."""
        with _one_line(self._folder):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Release Orbax's threads. A write that failed in the background comes out here at the latest."""
        with _one_line(self._folder):
            self._manager.close()


def save_final(folder: Path, tree: Tree) -> None:
    """Write the end of a trial, over what a killed run may have left there. Raises UserError when the disk is full."""
    _check_room(folder.parent, tree)
    flat = dict(zip(_names(tree), jax.tree.leaves(tree), strict=True))
    with _one_line(folder), ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute(), flat, force=True)


def read_final(folder: Path, template: Tree) -> Tree:
    """What `save_final` wrote, or that part of what `Checkpoints.save` did, in the structure of `template`; the process that asks
    reads it, whatever others do. Raises UserError where it is missing or does not fit."""
    names = _names(template)
    abstract = dict(zip(names, map(ocp.utils.to_shape_dtype_struct, jax.tree.leaves(template)), strict=True))
    args = ocp.args.PyTreeRestore(abstract, ocp.checkpoint_utils.construct_restore_args(abstract), partial_restore=True)
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**_by_this_process()), **_by_this_process()) as checkpointer:
            flat = checkpointer.restore(folder.absolute(), args=args)
        # What is not there comes back as it was asked for.
        if not all(isinstance(flat[name], jax.Array) for name in names):
            raise KeyError
    except Exception as error:  # Orbax and tensorstore raise many kinds on missing and broken files
        raise UserError(f"{folder} cannot be read ({type(error).__name__}); delete the trial's folder, run again") from None
    return jax.tree.unflatten(jax.tree.structure(template), [flat[name] for name in names])


def _by_this_process() -> dict[str, Any]:
    """Orbax would wait for the others."""
    if jax.process_count() == 1:
        return {}
    mine = jax.process_index()
    prefix = f"process{mine}"
    options = ocp.options.MultiprocessingOptions(primary_host=mine, active_processes={mine}, barrier_sync_key_prefix=prefix)
    return {"multiprocessing_options": options}


def _check_room(folder: Path, tree: Tree) -> None:
    """Raises UserError where `tree` would not fit: once Orbax runs into a full disk, its writers print a traceback each."""
    needed, free = partition.size_bytes(tree) + _SPARE_BYTES, shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"the disk of {folder} is full: a checkpoint needs {needed >> 20} MiB, {free >> 20} MiB are free; finished trials and"
            " the last whole checkpoint are kept: make room and run the same command again"
        )


class _one_line:  # noqa: N801 - reads as a phrase in a with statement
    """Turns what Orbax and tensorstore raise on a full or read-only disk into one line."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and re.search(r"No space left|RESOURCE_EXHAUSTED|Disk quota|Read-only file system", str(error)):
            what = "is read-only" if "Read-only" in str(error) else "is full"
            raise UserError(
                f"the disk of {self._folder} {what}; finished trials and the last whole checkpoint are kept: make room and run"
                " the same command again"
            ) from error


def _names(tree: Tree) -> list[str]:
    """One readable path a leaf: `trainable/stages/16/conv/kernel`."""
    return [
        re.sub(r"[^\w.-]+", "/", jax.tree_util.keystr(path, simple=True, separator="/"))
        for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    ]
