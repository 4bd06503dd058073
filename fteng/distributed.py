"""Several processes that run one study together, each on devices of its own: how they meet, agree, and end. Imports no jax at the
top.

All of them do the same, so that programs over all devices are called in one order. What depends on files, clocks or free memory may
differ from host to host: the first process decides, and tells. Only it writes and speaks.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from types import TracebackType
from typing import Any

from fteng.errors import UserError

# By hand: where the first process listens, how many there are, and which this is. Under srun SLURM says it.
_BY_HAND = ("FTENG_COORDINATOR", "FTENG_PROCESSES", "FTENG_PROCESS")
# Without a sign of life for so long a process is taken for dead, and the others end too.
_HEARTBEAT = 6
# For what the first process does while others wait: probes, files. A dead process is noticed before.
_PATIENCE_MS = 7 * 24 * 3600 * 1000
_numbers = count()
_processes, _process = 1, 0


def start() -> None:
    """Meet the others, if this process was started beside others; before jax is used. Raises UserError on half an address."""
    global _processes, _process
    how = _address(os.environ)
    if how is None:
        return
    import jax

    jax.distributed.initialize(**how, heartbeat_timeout_seconds=_HEARTBEAT)
    _processes, _process = jax.process_count(), jax.process_index()
    sys.excepthook = _end_all


def is_main() -> bool:
    """Whether this is the process that writes and speaks."""
    return _process == 0


def is_alone() -> bool:
    """Whether this is the only process."""
    return _processes == 1


def agree(value: Any) -> Any:
    """What the first process has here (as JSON), on all."""
    if _processes == 1:
        return value
    key = f"fteng/agree/{next(_numbers)}"
    if is_main():
        _client().key_value_set(key, json.dumps(value))
    return json.loads(_client().blocking_key_value_get(key, _PATIENCE_MS))


def from_main(look: Callable[[], Any]) -> Any:
    """What the first process finds (as JSON), on all: another one may look before or after it has changed a file."""
    return agree(look() if is_main() else None)


def everyone(flag: bool) -> bool:
    """Whether it is so on all."""
    if _processes == 1:
        return flag
    key = f"fteng/everyone/{next(_numbers)}"
    _client().key_value_set(f"{key}/{_process}", json.dumps(flag))
    return all(json.loads(_client().blocking_key_value_get(f"{key}/{other}", _PATIENCE_MS)) for other in range(_processes))


def wait() -> None:
    """Until all are here."""
    if _processes > 1:
        _client().wait_at_barrier(f"fteng/wait/{next(_numbers)}", _PATIENCE_MS)


@contextmanager
def main_first() -> Iterator[None]:
    """The first process runs the block, then the others, who find on disk what it has left there."""
    if not is_main():
        wait()
    yield
    if is_main():
        wait()


def agreed(asked: Callable[[], bool]) -> Callable[[], bool]:
    """Whether anyone was asked to stop: the same answer on all at the same call. All must call it equally often.

    An answer is that of the call before, so that no process waits for the step that has just begun.
    """
    if _processes == 1:
        return asked
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    firsts = [next(one for one in jax.devices() if one.process_index == index) for index in range(_processes)]
    grid = Mesh(np.array(firsts), ("process",))
    place, everywhere = NamedSharding(grid, PartitionSpec("process")), NamedSharding(grid, PartitionSpec())
    largest = jax.jit(lambda flags: flags.max(), out_shardings=everywhere)

    def ask() -> Any:
        mine = np.array([asked()], np.int32)
        return largest(jax.make_array_from_callback((_processes,), place, lambda _: mine))

    before = ask()

    def stop() -> bool:
        nonlocal before
        answer, before = bool(before), ask()
        return answer

    return stop


def leave(status: int) -> int:
    """The status, for `sys.exit`. A process that could not go on ends here: an orderly end would wait for the others."""
    if _processes > 1 and status not in (0, 143):
        _exit(status)
    return status


def _address(environment: Any) -> dict[str, Any] | None:
    """Arguments of `jax.distributed.initialize`; None for a process alone."""
    given = {name: environment[name] for name in _BY_HAND if environment.get(name)}
    if given:
        missing = [name for name in _BY_HAND if name not in given]
        if missing:
            raise UserError(f"{', '.join(given)} without {', '.join(missing)}; set all of {', '.join(_BY_HAND)}, or none")
        address, *numbers = (given[name] for name in _BY_HAND)
        if not all(number.isdigit() for number in numbers) or not int(numbers[1]) < int(numbers[0]):
            raise UserError(f"FTENG_PROCESSES, FTENG_PROCESS: got {', '.join(numbers)}; allowed: a number, and one from 0 below it")
        found = {"coordinator_address": address, "num_processes": int(numbers[0]), "process_id": int(numbers[1])}
        # jax would listen on every interface.
        return found | {"coordinator_bind_address": address}
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks == "1":
        return None
    # One task a node is to have all GPUs of the node: jax would take the first alone.
    gpus, a_node = environment.get("SLURM_GPUS_ON_NODE", ""), environment.get("SLURM_STEP_TASKS_PER_NODE", "").partition("(")[0]
    return {"local_device_ids": list(range(int(gpus)))} if gpus.isdigit() and a_node == "1" else {}


def _client() -> Any:
    # What jax offers in public compiles a program for each shape and runs on the devices, whose collectives give up after
    # half a minute of waiting for a process that is busy with files.
    from jax._src import distributed

    return distributed.global_state.client


def _end_all(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An exception that nobody caught: without this the process would wait for the others, and they for it."""
    traceback.print_exception(kind, error, trace)
    _exit(1)


def _exit(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
