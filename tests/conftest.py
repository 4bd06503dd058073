"""Nothing of a test lands in the user's cache, and the numeric rooms check the shapes in their signatures at every call."""

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from jaxtyping import install_import_hook
from xdist.scheduler import LoadFileScheduling

CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()

# Files whose slow tests take minutes, in the order in which to begin.
LONG = ("test_docs", "test_study", "test_slurm", "test_distributed", "test_mesh", "test_failures")

# Rooms whose tests go to one worker: a network and its programs, pages and what draws them.
WHOLE = ("train", "report")

# Workers of one run share what the run itself made, and keep to a core each: jax would start threads for all cores in both.
if (worker := os.environ.get("PYTEST_XDIST_WORKER")) is None:
    os.environ["FTENG_CACHE"] = tempfile.mkdtemp(prefix="fteng-test-cache-")
elif CORES:
    cores = sorted(CORES)
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})

# Before the first of them is imported. `tests/test_shapes.py` fails if the hook falls off one.
SHAPED = (
    "fteng.analysis.drawn",
    "fteng.backbones.backbone",
    "fteng.backbones.convolution",
    "fteng.backbones.depthwise",
    "fteng.backbones.layers",
    "fteng.backbones.own",
    "fteng.backbones.windows",
    "fteng.backbones.winograd",
    "fteng.data.arrays",
    "fteng.data.augment",
    "fteng.explain.changes",
    "fteng.explain.look",
    "fteng.explain.saliency",
    "fteng.export.check",
    "fteng.export.onnx",
    "fteng.export.program",
    "fteng.feed",
    "fteng.freeze.partition",
    "fteng.library",
    "fteng.mesh",
    "fteng.predict.see",
    "fteng.prefix.cache",
    "fteng.prefix.walk",
    "fteng.probe.features",
    "fteng.probe.gradient",
    "fteng.probe.logistic",
    "fteng.probe.newton",
    "fteng.probe.moments",
    "fteng.probe.probe",
    "fteng.similarity.assess",
    "fteng.similarity.between_splits",
    "fteng.similarity.classes",
    "fteng.similarity.distances",
    "fteng.similarity.grade",
    "fteng.similarity.layers",
    "fteng.similarity.learning",
    "fteng.similarity.leep",
    "fteng.similarity.predict",
    "fteng.similarity.ridge",
    "fteng.similarity.rows",
    "fteng.similarity.scores",
    "fteng.similarity.stages",
    "fteng.similarity.task",
    "fteng.similarity.zero",
    "fteng.train.batches",
    "fteng.train.evaluate",
    "fteng.train.population",
    "fteng.train.rates",
    "fteng.train.step",
    "fteng.train.trial",
)
install_import_hook(SHAPED, "beartype.beartype")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """(work directory, ended process) of a small whole study, run once for all workers, of which each has a copy of its own.
    Whoever changes it more than to make its report again works on another copy."""
    from tests.study_runs import run

    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "finished-study"
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = shared / "said.json"
        if not said.exists():
            ended = run(shared / "study")
            assert ended.returncode == 0, ended.stderr
            said.write_text(json.dumps([ended.stdout, ended.stderr]))
        workdir = tmp_path_factory.mktemp("study") / "study"
        shutil.copytree(shared / "study", workdir)
    return workdir, subprocess.CompletedProcess([], 0, *json.loads(said.read_text()))


@pytest.fixture
def all_cores() -> Iterator[None]:
    """What the test starts may run on all cores, not on the worker's own. One thread of XLA:CPU adds up in another order than
    several, and a process of two devices has two threads in any case."""
    if len(CORES) == 1:
        pytest.skip("one core: a process of one device has one thread, one of two devices has two, which add up in another order")
    if not CORES:
        # Nothing is pinned where the system cannot say.
        yield
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES)
    yield
    os.sched_setaffinity(0, own)


class _Rooms(LoadFileScheduling):
    """A file to a worker, and the whole of these rooms to one: their files share what takes long to make."""

    def _split_scope(self, nodeid: str) -> str:
        room = nodeid.split("/")[1]
        return room if room in WHOLE else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Rooms | None:
    return _Rooms(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that they are not what one worker is left with while the other waits; of the quick tests those
    that make the study which others find then, and beside them those of one room. With `--no-loadscope-reorder`."""

    def place(item: pytest.Item) -> int:
        if item.get_closest_marker("slow") is None:
            room = item.path.parent.name
            return 0 if item.path.stem == "test_export" else 1 + WHOLE.index(room) if room in WHOLE else 1 + len(WHOLE)
        return LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG)

    items.sort(key=place)
