"""Checkpoints of one trial with Orbax: what trains, its optimizer, where the trial stands. The frozen part is named, not kept."""

import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from fteng.distributed import agree, everyone, is_main
from fteng.errors import UserError
from fteng.freeze import partition

Tree = Any
T = TypeVar("T")
# Beside the arrays: their index, and what else the trial writes.
_SPARE_BYTES = 1 << 20
# How tensorstore and XLA, which have no kinds of exceptions, begin the text of one that says nothing about the file itself.
_PASSING = re.compile(r"(UNKNOWN|UNAVAILABLE|PERMISSION_DENIED|RESOURCE_EXHAUSTED|ABORTED|CANCELLED): ")


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
        # Of several processes: two trials that save at one step must not meet at one barrier.
        apart = ocp.options.MultiprocessingOptions(barrier_sync_key_prefix="-".join(folder.parts[-3:]))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=preservation_policy.LatestN(2), save_root_metadata=False, multiprocessing_options=apart
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def restore(self, template: Tree, say: Callable[[str], None]) -> Restored | None:
        """The newest whole checkpoint in the structure of `template` (arrays or shapes), or None where there is none.

        A damaged one is set aside for the one before, and `say` is told so. Raises UserError, and leaves all as it is, where one
        cannot be read for a reason that passes, or continues another frozen part.
        """
        for step in agree(sorted(self._manager.all_steps(), reverse=True)):
            # First whose it is: of another network the shapes differ, which must not look like damage.
            found = self._tried(step, partial(self._position, step), say)
            if found is None:
                continue
            frozen, position = found
            if not everyone(frozen == self._frozen):
                raise UserError(f"{self._folder} continues {frozen}, not {self._frozen}; delete the folder to start anew")
            state = self._tried(step, partial(self._state, step, template), say)
            if state is not None:
                return Restored(state, position)
        return None

    def _tried(self, step: int, read: Callable[[], T], say: Callable[[str], None]) -> T | None:
        """What `read` gives, or None and the step is set aside, on all processes alike. Raises UserError on all of them where one
        cannot read now."""
        found, passing, why = None, False, "elsewhere"
        try:
            found = read()
        except Exception as error:  # Orbax and tensorstore raise many kinds
            passing, why = _is_passing(error), _why(error)
        if everyone(found is not None):
            return found
        what = f"{self._folder}: the checkpoint of step {step}"
        if not everyone(not passing):
            raise UserError(f"{what} cannot be read now ({why}); nothing is deleted: run the same command again")
        aside = self._folder / f"damaged-{step}"
        say(f"{what} is damaged ({why}; now {aside.name}); going on from the one before, or anew")
        if is_main():
            # Of the same step, and so of the same content.
            shutil.rmtree(aside, ignore_errors=True)
            with _one_line(self._folder):
                (self._folder / str(step)).rename(aside)
        # There is nothing left to delete, but every process forgets the step, whatever its host still lists.
        self._manager.delete(step)
        return None

    def _position(self, step: int) -> tuple[dict[str, str], dict[str, Any]]:
        """(name of the frozen part, position)."""
        folder = self._folder / str(step) / "position"
        position = _read(folder, ocp.JsonCheckpointHandler(**_by_this_process()), ocp.args.JsonRestore())
        return position["frozen"], position

    def _state(self, step: int, template: Tree) -> Tree:
        return _read_tree(self._folder / str(step) / "state", template)

    def save(self, step: int, state: Tree, position: dict[str, Any]) -> None:
        """Start to write `state` and `position` in the background; a step that stands already is the same again."""
        # Another host may list the folder later.
        if agree(self._manager.latest_step()) == step:
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
    try:
        return _read_tree(folder, template, partial_restore=True)
    except Exception as error:  # Orbax and tensorstore raise many kinds on missing and broken files
        mend = "run the same command again" if _is_passing(error) else "delete the trial's folder, run again"
        raise UserError(f"{folder} cannot be read ({_why(error)}); {mend}") from None


def _read_tree(folder: Path, template: Tree, *, partial_restore: bool = False) -> Tree:
    """In the structure of `template`. partial_restore: there may be more."""
    names = _names(template)
    abstract = dict(zip(names, map(ocp.utils.to_shape_dtype_struct, jax.tree.leaves(template)), strict=True))
    how = ocp.checkpoint_utils.construct_restore_args(abstract)
    args = ocp.args.PyTreeRestore(abstract, how, partial_restore=partial_restore)
    flat = _read(folder, ocp.PyTreeCheckpointHandler(**_by_this_process()), args)
    # What is not there comes back as it was asked for.
    if not all(isinstance(flat[name], jax.Array) for name in names):
        raise KeyError
    return jax.tree.unflatten(jax.tree.structure(template), [flat[name] for name in names])


def _read(folder: Path, handler: Any, args: Any) -> Any:
    """By this process, whatever others do: where one fails, the others would wait for it in Orbax."""
    with ocp.Checkpointer(handler, **_by_this_process()) as checkpointer:
        return checkpointer.restore(folder.absolute(), args=args)


def _is_passing(error: BaseException) -> bool:
    """Whether it says nothing about what is on disk: a server that does not answer, no right to read, no memory."""
    first = _first(error)
    if isinstance(first, OSError):
        return not isinstance(first, FileNotFoundError)
    return isinstance(first, MemoryError) or _PASSING.match(str(first)) is not None


def _why(error: BaseException) -> str:
    """Few words: what the system says, or, of what Orbax and others say at length, the kind."""
    first = _first(error)
    if isinstance(first, OSError) and first.strerror:
        return first.strerror
    # tensorstore puts the system's words last, before a dump of what it was asked for.
    said = re.split(r" \[[a-z]", str(first))[0].splitlines() if _PASSING.match(str(first)) else []
    return said[0].rpartition(": ")[2] if said else type(first).__name__


def _first(error: BaseException) -> BaseException:
    """What it was raised from: Orbax wraps some errors of tensorstore."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


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
