"""Our networks against PyTorch's, forward, and forward and backward: the same weights, images and threads, in one run.

    python -m benchmarks.backbones [--quick] [--only NAME] [--torch-python PATH]

PyTorch runs in a process of its own, channels_last, twice: eager, and through torch.compile (inductor, its defaults). In every turn
each side runs once while the others sleep, the order changing from turn to turn, so that what else the machine does falls on all
alike; the first turn is not counted. "backward" is the loss (mean square of the logits) and its gradient by all parameters, with
batch norm in inference mode: the statistics are kept. On a CPU in float32; on a GPU in float32 with TF32 off, and in bfloat16
(weights, images and activations).

Weights are drawn at random, biases and statistics too, and handed over under timm's or torchvision's names. A network is timed
only if logits and gradient norm agree with PyTorch's to 1e-3 of the largest in float32 (0.1 in bfloat16, which has 8 bits).

    ms          median (min-max) of n calls for the whole batch
    first s     until the first answer, which is compiling: fteng / torch.compile, whose cache is empty when the run begins
    x eager     how many times as fast as that fteng is: median over turns; above 1 fteng is faster
    x better    the same, against the faster of the two; goal: what we want of `x compile` on a CPU

PyTorch's interpreter needs torch, timm, torchvision and safetensors: pip install 'fteng[bench]', or name one by --torch-python.
Without a C++ compiler torch.compile fails on a CPU; then it is reported as failed and the rest is measured. All of it takes about a
quarter of an hour on 2 idle cores. Quick: two networks, an eighth of the images, 64 px where the network allows it, 2 turns, no
record.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

# XLA would take three quarters of a GPU's memory for itself, and PyTorch needs its own.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp
import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from safetensors.numpy import save_file

from benchmarks.record import write_record
from fteng.backbones.backbone import Backbone
from fteng.backbones.catalogue import find
from fteng.backbones.network import Network, truncate
from fteng.backbones.weights import named
from fteng.errors import UserError

Tree = Any
Ask = Callable[..., dict[str, Any]]

_PEERS = ("torch eager", "torch compile")
_SIDES = ("fteng", *_PEERS)
_THREADS = len(os.sched_getaffinity(0))
# Runnable processes a core, before we start, from which ratios are worth nothing.
_BUSY = 0.3
_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}


class _Case(NamedTuple):
    """peer: LIBRARY/MODEL, whose names the library's naming has; images, pixels: of a batch; small: pixels with --quick; classes: 0
    is no classifier; goal: of `x compile` on a CPU."""

    name: str
    peer: str
    images: int
    pixels: int
    small: int
    classes: int = 1000
    last_stage: str = ""
    goal: float | None = None


_CASES = (
    _Case("efficientnet_lite0", "timm/tf_efficientnet_lite0", 32, 224, 64, goal=1.0),
    _Case("resnet50", "torchvision/resnet50", 16, 224, 64, goal=1.0),
    _Case("vgg16", "torchvision/vgg16", 8, 224, 224, goal=0.8),
    _Case("vgg16:block5", "torchvision/vgg16.features", 8, 224, 64, classes=0, last_stage="block5_conv3", goal=0.8),
    _Case("vit_small_patch16", "timm/vit_small_patch16_224", 16, 224, 224),
    _Case("convnext_tiny", "torchvision/convnext_tiny", 16, 224, 64),
    _Case("all_cnn_c", "fteng/all_cnn_c", 128, 32, 32, classes=10),
)
_QUICK = ("vit_small_patch16", "all_cnn_c")


class _Drawn(NamedTuple):
    """trained: params and head, what has a gradient; head: kernel (features, classes) and bias, or None; images: (n, h, w, 3)."""

    backbone: Backbone
    trained: tuple[tuple[Tree, ...], Tree]
    stats: tuple[Tree, ...]
    images: jax.Array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help=f"small and few: {' and '.join(_QUICK)}, or the one --only names; no record"
    )
    parser.add_argument("--only", choices=[case.name for case in _CASES], metavar="NAME", help="%(choices)s")
    parser.add_argument(
        "--torch-python", default=sys.executable, metavar="PATH", help="a Python that has torch (default: this one)"
    )
    given = parser.parse_args()
    chosen = {given.only} if given.only else set(_QUICK) if given.quick else {case.name for case in _CASES}
    rows: list[dict[str, Any]] = []
    name = "-".join(filter(None, ("backbones", (given.only or "").replace(":", "-"))))
    load = os.getloadavg()[0] / _THREADS
    path: Path | None = None
    try:
        with tempfile.TemporaryDirectory() as folder:
            for case in _CASES:
                if case.name in chosen:
                    measured = _measure(case, given.torch_python, Path(folder), given.quick)
                    rows += [{**row, "load_per_core_before": round(load, 2)} for row in measured]
                    # After each network: a failure of the next one must not cost a quarter of an hour.
                    path = None if given.quick else write_record(name, rows)
    except UserError as error:
        parser.exit(os.EX_UNAVAILABLE, f"{error}\n")
    Console(width=150).print(_table(rows, load))
    if path is not None:
        print(f"record: {path}")
    if any("refused" in row for row in rows):
        sys.exit("a network was not timed: its answers are not PyTorch's")


def _measure(case: _Case, python: str, folder: Path, quick: bool) -> Iterator[dict[str, Any]]:
    """One row a precision and pass. Each network has a PyTorch of its own, so that nothing is left of the one before."""
    on_gpu = jax.default_backend() == "gpu"
    with _torch(python, folder) as ask:
        hello = _hello(ask, python, on_gpu)
        drawn = _draw(case, case.images // 8 if quick else case.images, case.small if quick else case.pixels, folder)
        for precision in ("float32", "bfloat16") if on_gpu else ("float32",):
            what = {
                "network": case.name,
                "peer": case.peer,
                "peer_versions": hello["versions"],
                "images": drawn.images.shape,
                "precision": precision,
                "threads": _THREADS,
                "device": jax.devices()[0].device_kind,
                "goal": None if on_gpu or quick else case.goal,
            }
            device = "cuda" if on_gpu else "cpu"
            file = str(_file(folder))
            ask(do="build", model=case.peer, file=file, device=device, precision=precision, threads=_THREADS)
            for kind in ("forward", "backward"):
                Console(stderr=True).print(f"{case.name}, {precision}, {kind} ...")
                yield what | {"pass": kind} | _race(ask, drawn, precision, kind, turns=2 if quick else 3, calls=20 if on_gpu else 1)


def _race(ask: Ask, drawn: _Drawn, precision: str, kind: str, *, turns: int, calls: int) -> dict[str, Any]:
    """Seconds of each side, turn by turn; or why there are none."""
    started = time.perf_counter()
    run = _compiled(drawn, precision, kind)
    result = jax.block_until_ready(run())
    first = {"fteng": time.perf_counter() - started}
    answer = np.asarray([_norm(result)]) if kind == "backward" else np.asarray(result, np.float32)
    sides, failed, differences = ["fteng"], {}, {}
    for side in _PEERS:
        told = ask(allowed_to_fail=side == "torch compile", do="prepare", side=side, **{"pass": kind})
        if "error" in told:
            failed[side] = told["error"]
            continue
        theirs = np.asarray(told["answer"], np.float32)
        differences[side] = float(np.abs(answer - theirs).max() / np.abs(theirs).max())
        first[side] = told["seconds"]
        sides.append(side)
    checked = {"failed": failed, "difference": differences, "first_call_seconds": first}
    # Not `any(d > tolerance)`: NaN is not equal either.
    if not all(difference <= _TOLERANCE[precision] for difference in differences.values()):
        return {**checked, "refused": f"answers differ by {max(differences.values()):.1e}"}
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(turns + 1):
        for side in sides[turn % len(sides) :] + sides[: turn % len(sides)]:
            taken = _timed(run, calls) if side == "fteng" else ask(do="run", side=side, calls=calls, **{"pass": kind})["seconds"]
            # The first turn fills caches and is not counted.
            if turn:
                seconds[side].append(taken / calls)
    return {**checked, "n": turns, "calls_a_turn": calls, **_numbers(seconds, len(drawn.images))}


def _numbers(seconds: Mapping[str, Sequence[float]], images: int) -> dict[str, Any]:
    ours = seconds["fteng"]
    times = {side: [theirs / mine for theirs, mine in zip(taken, ours, strict=True)] for side, taken in seconds.items()}
    better = min((side for side in seconds if side != "fteng"), key=lambda side: statistics.median(seconds[side]))
    return {
        "milliseconds": {side: _spread([1000 * second for second in taken]) for side, taken in seconds.items()},
        "images_per_second": {side: images / statistics.median(taken) for side, taken in seconds.items()},
        "times": {side: _spread(ratios) for side, ratios in times.items() if side != "fteng"},
        "better": better,
        "times_better": _spread(times[better]),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def _timed(run: Callable[[], Any], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls - 1):
        run()
    jax.block_until_ready(run())
    return time.perf_counter() - started


def _compiled(drawn: _Drawn, precision: str, kind: str) -> Callable[[], Any]:
    """The pass in that precision, of weights and images that are on the device already."""
    backbone = drawn.backbone

    def logits(trained: tuple[tuple[Tree, ...], Tree], stats: tuple[Tree, ...], images: jax.Array) -> jax.Array:
        params, head = trained
        features = backbone.pool(backbone.apply(params, stats, images)[0])
        # A vision transformer's classifier reads the class token, the first of its features.
        return features if head is None else features[:, : head["kernel"].shape[0]] @ head["kernel"] + head["bias"]

    def gradient(trained: tuple[tuple[Tree, ...], Tree], stats: tuple[Tree, ...], images: jax.Array) -> Any:
        return jax.value_and_grad(lambda trained: jnp.mean(jnp.square(logits(trained, stats, images).astype(jnp.float32))))(trained)

    arguments = jax.tree.map(lambda leaf: leaf.astype(precision), (drawn.trained, drawn.stats, drawn.images))
    function = gradient if kind == "backward" else logits
    exact = precision == "float32" and jax.default_backend() == "gpu"
    with jax.default_matmul_precision("highest") if exact else nullcontext():
        program = jax.jit(function).lower(*arguments).compile()
    return lambda: program(*arguments)


def _norm(result: tuple[jax.Array, Tree]) -> float:
    """Of the gradient, by which one number tells whether both sides did the same work."""
    return sum(float(np.square(np.asarray(leaf, np.float64)).sum()) for leaf in jax.tree.leaves(result[1])) ** 0.5


def _draw(case: _Case, images: int, pixels: int, folder: Path) -> _Drawn:
    """Random weights, and the same in PyTorch's names as a file."""
    network, rng = _network(case), np.random.default_rng(0)
    backbone = network.backbone

    def shaken(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        """Zeros and ones would hide what they multiply or are added to."""
        if leaf.ndim > 1:
            return leaf
        noise = 0.1 * rng.standard_normal(leaf.shape, np.float32)
        # A variance stays positive.
        return leaf * np.exp(noise) if path[-1].key == "var" else leaf + noise

    params, stats = jax.tree_util.tree_map_with_path(shaken, network.initial(0))
    naming = next(naming for naming in network.namings if naming.name == case.peer.partition("/")[0])
    head = None
    if case.classes:
        features = backbone.channels[-1] // (2 if case.name.startswith("vit") else 1)
        kernel = rng.standard_normal((features, case.classes), np.float32) / features**0.5
        head = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(rng.standard_normal(case.classes, np.float32))}
    x = rng.standard_normal((images, pixels, pixels, 3), np.float32)
    save_file(named(naming, params, stats, head) | {"images": x}, _file(folder))
    return _Drawn(backbone, (params, head), stats, jnp.asarray(x))


def _network(case: _Case) -> Network:
    network = find(case.name.partition(":")[0])
    return truncate(network, network.backbone.stages.index(case.last_stage) + 1) if case.last_stage else network


def _file(folder: Path) -> Path:
    return folder / "weights.safetensors"


@contextmanager
def _torch(python: str, folder: Path) -> Iterator[Ask]:
    """PyTorch's process, as a function that asks it one thing; see torch_backbones.py."""
    # A cache of this run: what inductor has compiled in an earlier one would be no compile time.
    environment = {"TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"), "OMP_NUM_THREADS": str(_THREADS)}
    log = folder / "torch.log"
    try:
        process = subprocess.Popen(
            [python, str(Path(__file__).with_name("torch_backbones.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
            env=os.environ | environment,
        )
    except OSError as error:
        raise UserError(f"--torch-python: cannot start {python} ({error.strerror}); {_GET_TORCH}") from None
    requests, answers = process.stdin, process.stdout
    assert requests is not None
    assert answers is not None

    def ask(*, allowed_to_fail: bool = False, **request: Any) -> dict[str, Any]:
        try:
            requests.write(json.dumps(request) + "\n")
            requests.flush()
            line = answers.readline()
        except BrokenPipeError:
            line = ""
        last = (log.read_text(errors="replace").strip().splitlines() or ["no message"])[-1]
        answer = json.loads(line) if line else {"error": f"the process ended: {last}"}
        if "error" in answer and not (allowed_to_fail and line):
            raise RuntimeError(f"PyTorch at {request}: {answer['error']}")
        return answer

    try:
        yield ask
    finally:
        process.kill()
        process.wait()


_GET_TORCH = "give --torch-python a Python that has torch, timm and torchvision: pip install 'fteng[bench]'"


def _hello(ask: Ask, python: str, on_gpu: bool) -> dict[str, Any]:
    try:
        hello = ask(do="hello")
    except RuntimeError as error:
        raise UserError(f"--torch-python: {python} cannot be PyTorch's side ({error}); {_GET_TORCH}") from None
    if on_gpu and not hello["cuda"]:
        raise UserError(f"JAX has a GPU and PyTorch in {python} has none; install torch for CUDA, or set JAX_PLATFORMS=cpu")
    return hello


def _table(rows: Sequence[Mapping[str, Any]], load: float) -> Table:
    table = Table("network", "images", "pass", box=SIMPLE)
    for title in (*(f"{side} ms" for side in _SIDES), "n", "first s"):
        table.add_column(title, no_wrap=True)
    for title in ("x eager", "x compile", "x better", "goal"):
        table.add_column(title, justify="right")
    for row in rows:
        what = (row["network"], f"{row['images'][0]} x {row['images'][1]} px", row["pass"])
        if row["precision"] != "float32":
            what = (f"{row['network']}, {row['precision']}", *what[1:])
        if "refused" in row:
            table.add_row(*what, f"not timed: {row['refused']}")
            continue
        times = [f"{row['times'][side]['median']:.2f}" if side in row["times"] else "" for side in _PEERS]
        first = " / ".join(
            f"{row['first_call_seconds'][side]:.0f}" for side in ("fteng", "torch compile") if side not in row["failed"]
        )
        goal = "" if row["goal"] is None else f"{row['goal']:.1f}"
        spans = (_span(row["milliseconds"].get(side)) for side in _SIDES)
        table.add_row(*what, *spans, str(row["n"]), first, *times, f"{row['times_better']['median']:.2f}", goal)
    failures = sorted(
        {f"{row['network']}, {row['pass']}: {side} failed: {why}" for row in rows for side, why in row["failed"].items()}
    )
    said = f"{rows[0]['device']}, {rows[0]['threads']} threads on each side; " + ", ".join(
        f"{library} {version}" for library, version in rows[0]["peer_versions"].items()
    )
    if load > _BUSY:
        said += (
            f"\nOTHER WORK ran beside this, {load:.1f} runnable processes a core in the minute before: do not quote these ratios."
        )
    table.caption = "\n".join(
        [said, "ms: median (min-max) of n. x: how many times as fast fteng is; above 1 it is faster.", *failures]
    )
    return table


def _span(spread: Mapping[str, float] | None) -> str:
    if spread is None:
        return "failed"
    digits = 0 if spread["median"] >= 100 else 1
    return f"{spread['median']:.{digits}f} ({spread['min']:.{digits}f}-{spread['max']:.{digits}f})"


if __name__ == "__main__":
    main()
