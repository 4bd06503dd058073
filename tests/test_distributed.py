"""Two processes on this host train one trial together: as one process with as many devices would, and they end together."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from fteng import distributed
from fteng.errors import UserError
from fteng.paths import StudyPaths
from fteng.results import read_predictions
from tests.study_runs import ROOT, TINY, command, run

# With a start of its own, whose statistics both processes compute and the first writes.
ADAPT = "--config.sweep.batch_norm=keep,adapt"


def test_a_process_alone_agrees_with_itself():
    assert distributed.is_main()
    assert distributed.agree({"a": [1, 2]}) == {"a": [1, 2]}
    assert distributed.everyone(True) is True
    assert distributed.everyone(False) is False
    assert distributed.leave(2) == 2

    def asked() -> bool:
        return True

    assert distributed.agreed(asked) is asked
    distributed.wait()
    with distributed.main_first():
        pass


def test_where_the_others_are():
    hand = {"FTENG_COORDINATOR": "127.0.0.1:29401", "FTENG_PROCESSES": "2", "FTENG_PROCESS": "1"}
    found = distributed._address(hand)
    assert found is not None
    assert (found["num_processes"], found["process_id"]) == (2, 1)
    assert found["coordinator_bind_address"] == found["coordinator_address"] == "127.0.0.1:29401"
    # Alone: nothing said, one task, or the shell of a batch job around its steps.
    assert distributed._address({}) is None
    assert distributed._address({"SLURM_STEP_NUM_TASKS": "1"}) is None
    assert distributed._address({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}) is None
    # jax asks SLURM itself, but would give the one task of a node only the first of its GPUs.
    step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}
    assert distributed._address(step) == {}
    assert distributed._address(step | {"SLURM_GPUS_ON_NODE": "4"}) == {"local_device_ids": [0, 1, 2, 3]}
    assert distributed._address(step | {"SLURM_GPUS_ON_NODE": "4", "SLURM_STEP_TASKS_PER_NODE": "4(x2)"}) == {}


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"FTENG_COORDINATOR": "127.0.0.1:1"}, r"FTENG_COORDINATOR without FTENG_PROCESSES, FTENG_PROCESS"),
        ({"FTENG_COORDINATOR": "h:1", "FTENG_PROCESSES": "2", "FTENG_PROCESS": "2"}, r"got 2, 2; allowed"),
        ({"FTENG_COORDINATOR": "h:1", "FTENG_PROCESSES": "two", "FTENG_PROCESS": "0"}, r"got two, 0; allowed"),
    ],
)
def test_half_an_address_is_one_line(given, match):
    with pytest.raises(UserError, match=match):
        distributed._address(given)


@pytest.fixture
def surveyed(finished, tmp_path) -> Path:
    """A study whose trials are yet to be run."""
    shutil.copytree(finished[0], tmp_path / "study")
    shutil.rmtree(tmp_path / "study" / "trials")
    shutil.rmtree(tmp_path / "study" / "report")
    return tmp_path / "study"


def start_two(workdir: Path, *flags: str, disturb: str = "") -> list[subprocess.Popen[str]]:
    """Two processes with a device each; the second disturbed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    processes = []
    for index in range(2):
        arguments = command(workdir, *flags, base=TINY)
        if disturb and index == 1:
            arguments[2] = "tests.disturbed"
        told = {"FTENG_COORDINATOR": address, "FTENG_PROCESSES": "2", "FTENG_PROCESS": str(index), "DISTURB": disturb}
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(arguments, cwd=ROOT, env=os.environ | told, stdout=pipe, stderr=pipe, text=True))
    return processes


def ended(processes: list[subprocess.Popen[str]], timeout: float = 240) -> list[tuple[int, str, str]]:
    """(status, stdout, stderr) of each; none is left behind."""
    try:
        said = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
    return [(process.returncode, *texts) for process, texts in zip(processes, said, strict=True)]


def logits(workdir: Path) -> dict[str, np.ndarray]:
    return {
        f"{folder.name}/{split}": answers.logits
        for folder in (workdir / "trials").iterdir()
        for split, answers in read_predictions(folder / "predictions.parquet").items()
    }


def assert_close(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert np.abs(values - other[name]).max() <= 1e-5 * np.abs(values).max(), name


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("all_cores")
def test_two_processes_are_one_with_two_devices(finished, surveyed, tmp_path):
    # Of one survey: that was made with the threads of a test worker.
    shutil.copytree(surveyed, tmp_path / "one")
    (first, out, said), (second, silent, _) = ended(start_two(surveyed, ADAPT))
    assert (first, second) == (0, 0), said
    assert "report:" in out
    # Only the first speaks, but for what jax's collectives say of themselves.
    assert [line for line in silent.splitlines() if not line.startswith("[Gloo]")] == []
    both = run(tmp_path / "one", "--config.train.devices=2", ADAPT, XLA_FLAGS="--xla_force_host_platform_device_count=2")
    assert both.returncode == 0, both.stderr
    together, apart = logits(tmp_path / "one"), logits(surveyed)
    assert together.keys() == apart.keys()
    for name, values in together.items():
        np.testing.assert_array_equal(values, apart[name], name)
    roots = surveyed, tmp_path / "one"
    losses = [{path.parent.name: path.read_text() for path in (root / "trials").glob("*/metrics.jsonl")} for root in roots]
    assert losses[0] == losses[1]
    # Adapted statistics and their heads.
    starts = [np.load(StudyPaths(root).heads("pretrained-adapted")) for root in roots]
    assert starts[0].files == starts[1].files
    for name in starts[0].files:
        np.testing.assert_array_equal(starts[0][name], starts[1][name], name)
    alone = logits(finished[0])
    assert_close(alone, {name: apart[name] for name in alone})


@pytest.mark.slow
def test_an_exception_in_one_process_ends_both(surveyed):
    processes = start_two(surveyed, disturb="raise")
    processes[1].wait(timeout=240)
    began = time.monotonic()
    processes[0].wait(timeout=60)
    assert time.monotonic() - began < 10
    (first, _, _), (second, _, said) = ended(processes)
    assert second == 1
    assert first not in (0, 143)
    assert "RuntimeError: broken on purpose" in said
    # With its traceback on top: nothing failed before it.
    assert said.index("Traceback") == said.index("Traceback (most recent call last)")
    assert said.count("Traceback") == 1


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_at_one_step(finished, surveyed):
    (first, _, told), (second, _, _) = ended(start_two(surveyed, disturb="terminate"))
    assert (first, second) == (143, 143), told
    # The answer to `stop?` is that of the step before.
    assert "at step 3 of 4" in told
    steps = [sorted(int(step.name) for step in folder.iterdir()) for folder in (surveyed / "trials").glob("*/checkpoints/running")]
    assert steps == [[2, 3]]
    resumed = run(surveyed, base=TINY)
    assert resumed.returncode == 0, resumed.stderr
    assert_close(logits(finished[0]), logits(surveyed))
