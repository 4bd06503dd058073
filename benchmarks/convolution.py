"""EfficientNet-Lite0 on our convolutions against the same network on XLA's own: images/s and compile time on this machine.

    python -m benchmarks.convolution [--quick]

Both run in one process and take turns, so that what else the machine does falls on both. "backward" is forward and backward
together, to all parameters. Quick: 2 runs, and 64 px only.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.record import write_record
from fteng.backbones import convolution
from fteng.backbones.backbone import pool
from fteng.backbones.catalogue import load

_BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="64 px and 2 runs only")
    quick = parser.parse_args().quick
    rows = [row for size in ((64,) if quick else (64, 224)) for row in _measure(size, quick)]
    table = Table("px", "pass", "by", "images/s", "min", "max", "n", "compile s", "x stock", box=SIMPLE)
    for row in rows:
        speed = row["images_per_second"]
        numbers = (f"{speed['median']:.1f}", f"{speed['min']:.1f}", f"{speed['max']:.1f}", str(row["n"]))
        ratio = f"{row['times_stock']:.1f}"
        table.add_row(str(row["pixels"]), row["pass"], row["convolutions"], *numbers, f"{row['compile_seconds']:.1f}", ratio)
    table.caption = "images/s: the median of n. backward: forward and backward."
    Console(width=80).print(table)
    print(f"record: {write_record('convolution-quick' if quick else 'convolution', rows)}")


def _measure(size: int, quick: bool) -> Iterator[dict[str, Any]]:
    """Rows of the two passes at one image size, ours and stock."""
    backbone, weights = load("efficientnet_lite0", "random")
    images = jnp.asarray(np.random.default_rng(0).standard_normal((_BATCH, size, size, 3), np.float32))

    def forward(params: Any, stats: Any, x: jax.Array) -> jax.Array:
        return pool(backbone.apply(params, stats, x)[0])

    def backward(params: Any, stats: Any, x: jax.Array) -> Any:
        return jax.grad(lambda params: jnp.mean(jnp.square(forward(params, stats, x))))(params)

    arguments = (weights.params, weights.stats, images)
    for name, function in (("forward", forward), ("backward", backward)):
        ours, our_compile = _compiled(function, arguments)
        with _stock_convolutions():
            stock, stock_compile = _compiled(function, arguments)
        # Stock needs about half a minute for one backward pass at 224 px.
        runs = 2 if quick or (size > 64 and name == "backward") else 5
        seconds: dict[str, list[float]] = {"ours": [], "stock": []}
        for turn in range(runs + 1):
            for kind, program in (("ours", ours), ("stock", stock)):
                start = time.perf_counter()
                jax.block_until_ready(program(*arguments))
                # The first turn fills caches and is not counted.
                if turn:
                    seconds[kind].append(time.perf_counter() - start)
        for kind, compile_seconds in (("ours", our_compile), ("stock", stock_compile)):
            speeds = [_BATCH / second for second in seconds[kind]]
            yield {
                "pixels": size,
                "batch": _BATCH,
                "pass": name,
                "convolutions": kind,
                "n": runs,
                "images_per_second": {"min": min(speeds), "median": statistics.median(speeds), "max": max(speeds)},
                "compile_seconds": compile_seconds,
                "times_stock": statistics.median(seconds["stock"]) / statistics.median(seconds[kind]),
            }


def _compiled(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Callable[..., Any], float]:
    start = time.perf_counter()
    # A function of its own for each kind: jit keeps the trace of one it has seen.
    program = jax.jit(lambda *values: function(*values)).lower(*arguments).compile()
    return program, time.perf_counter() - start


@contextmanager
def _stock_convolutions() -> Iterator[None]:
    ours = convolution.dense, convolution.depthwise
    convolution.dense = convolution.depthwise = convolution.native
    try:
        yield
    finally:
        convolution.dense, convolution.depthwise = ours


if __name__ == "__main__":
    main()
