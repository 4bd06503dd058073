"""What huge pages buy: passes in a process that asks Linux for them, as fteng's commands do, and in one that does not.

    python -m benchmarks.huge_pages [--quick]

Batches of 32, random weights. The two processes take turns, four passes at a time, of which the first is not counted, so that what
else the machine does falls on both. A study's steps follow each other, too: where the processes changed at every pass, huge pages
were no gain, and up to 1.6 times slower (by hand, on a virtual machine; why was not found out). "train": forward and backward, to
all parameters. There can only be a difference where /sys/kernel/mm/transparent_hugepage/enabled says [madvise].
Quick: 1 turn, one network of 64 px, no record.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.record import write_record
from fteng.backbones.catalogue import load
from fteng.config import BackboneConfig
from fteng.process import HUGE_PAGES, TUNABLES

_BATCH = 32
_CASES = (("efficientnet_lite0", 128), ("efficientnet_lite0", 224), ("resnet50", 128), ("all_cnn_c", 32))
_PASSES = ("forward", "train")
_IN_A_ROW = 4
_TOLD = {"huge": f"{HUGE_PAGES}=1", "small": ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 turn, one network of 64 px, no record")
    parser.add_argument(
        "--serve", nargs=2, metavar=("NETWORK", "PIXELS"), help="passes of the kind that a line on standard input names"
    )
    given = parser.parse_args()
    if given.serve:
        _serve(given.serve[0], int(given.serve[1]))
        return
    cases = (("efficientnet_lite0", 64),) if given.quick else _CASES
    rows = [row for network, pixels in cases for row in _measure(network, pixels, 1 if given.quick else 4)]
    table = Table("network", "px", "pass", "ms, huge pages", "ms, without", "x", "n")
    for row in rows:
        times = [f"{row[kind]['median']:.1f} [{row[kind]['min']:.1f}, {row[kind]['max']:.1f}]" for kind in ("huge", "small")]
        table.add_row(row["network"], str(row["pixels"]), row["pass"], *times, f"{row['times_small']:.2f}", str(row["n"]))
    Console(width=120).print(table)
    if not given.quick:
        print(f"record: {write_record('huge_pages', rows)}")


def _measure(network: str, pixels: int, turns: int) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.huge_pages", "--serve", network, str(pixels)]
    root = Path(__file__).parent.parent
    seconds: dict[tuple[str, str], list[float]] = {}
    servers = {
        kind: subprocess.Popen(
            command, cwd=root, env=os.environ | {TUNABLES: told}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for kind, told in _TOLD.items()
    }
    for turn in range(turns + 1):
        for passed in _PASSES:
            for kind, server in servers.items():
                took = _ask(server, passed)
                # The first turn compiles and is not counted, nor is the first pass of a turn.
                if turn:
                    seconds.setdefault((passed, kind), []).extend(took[1:])
    for server in servers.values():
        assert server.stdin is not None
        server.stdin.close()
        server.wait()
    rows = []
    for passed in _PASSES:
        spreads = {kind: _spread(seconds[passed, kind]) for kind in _TOLD}
        ratio = spreads["small"]["median"] / spreads["huge"]["median"]
        rows.append(
            {"network": network, "pixels": pixels, "pass": passed, **spreads, "times_small": ratio, "n": turns * (_IN_A_ROW - 1)}
        )
    return rows


def _ask(server: "subprocess.Popen[str]", passed: str) -> list[float]:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(f"{passed}\n")
    server.stdin.flush()
    answer = server.stdout.readline()
    if not answer:
        raise SystemExit(f"a process that was to run {passed} ended with status {server.wait()}")
    return json.loads(answer)


def _spread(seconds: list[float]) -> dict[str, float]:
    values = 1000 * np.asarray(seconds)
    return {"median": float(np.median(values)), "min": float(values.min()), "max": float(values.max())}


def _serve(network: str, pixels: int) -> None:
    backbone, weights = load(BackboneConfig(network, "random"))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((_BATCH, pixels, pixels, 3), np.float32))

    def forward(params: Any, x: jax.Array) -> jax.Array:
        return backbone.pool(backbone.apply(params, weights.stats, x)[0])

    def train(params: Any, x: jax.Array) -> Any:
        return jax.grad(lambda params: jnp.mean(jnp.square(forward(params, x))))(params)

    programs: dict[str, Callable[..., Any]] = {"forward": jax.jit(forward), "train": jax.jit(train)}
    for line in sys.stdin:
        took = []
        for _ in range(_IN_A_ROW):
            started = time.perf_counter()
            jax.block_until_ready(programs[line.strip()](weights.params, x))
            took.append(time.perf_counter() - started)
        print(json.dumps(took), flush=True)


if __name__ == "__main__":
    main()
