"""Our convolutions against XLA's own on this machine: the layers of the networks we have, then EfficientNet-Lite0 as a whole.

    python -m benchmarks.convolution [--quick]

Both run in one process and take turns, so that what else the machine does falls on both. "backward" is forward and backward
together: to input and kernel of a layer, to all parameters of the network. Quick: 2 runs, an eighth of a layer's images, 64 px,
no record.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.record import write_record
from fteng.backbones import convolution
from fteng.backbones.catalogue import load
from fteng.config import BackboneConfig

_BATCH = 32


class _Layer(NamedTuple):
    """pixels: rows and columns of its images. outputs: None is depthwise."""

    name: str
    images: int
    pixels: int
    inputs: int
    outputs: int | None
    size: int
    stride: int
    padding: convolution.Padding


_LAYERS = (
    _Layer("VGG16 3x3", 8, 224, 3, 64, 3, 1, 1),
    _Layer("VGG16 3x3", 8, 224, 64, 64, 3, 1, 1),
    _Layer("VGG16 3x3", 8, 112, 128, 128, 3, 1, 1),
    _Layer("VGG16 3x3", 8, 56, 256, 256, 3, 1, 1),
    _Layer("VGG16 3x3", 8, 28, 512, 512, 3, 1, 1),
    _Layer("ResNet-50 7x7/2", 16, 224, 3, 64, 7, 2, 3),
    _Layer("ResNet-50 3x3", 16, 56, 64, 64, 3, 1, 1),
    _Layer("ResNet-50 3x3", 16, 14, 256, 256, 3, 1, 1),
    _Layer("ResNet-50 3x3/2", 16, 28, 256, 256, 3, 2, 1),
    _Layer("ResNet-50 1x1", 16, 14, 1024, 256, 1, 1, 0),
    _Layer("ResNet-50 1x1/2", 16, 28, 512, 1024, 1, 2, 0),
    _Layer("All-CNN 3x3", 64, 32, 96, 96, 3, 1, "SAME"),
    _Layer("All-CNN 3x3/2", 64, 32, 96, 96, 3, 2, "SAME"),
    _Layer("EfficientNet depthwise 5x5", 16, 28, 240, None, 5, 1, "SAME"),
    _Layer("EfficientNet depthwise 3x3/2", 16, 28, 240, None, 3, 2, "SAME"),
    _Layer("ConvNeXt depthwise 7x7", 16, 56, 96, None, 7, 1, 3),
    _Layer("ConvNeXt 4x4/4", 16, 224, 3, 96, 4, 4, "VALID"),
    _Layer("ConvNeXt 2x2/2", 16, 56, 96, 192, 2, 2, "VALID"),
    _Layer("ViT 16x16/16", 16, 224, 3, 768, 16, 16, "VALID"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 runs, fewer images, 64 px only, no record")
    quick = parser.parse_args().quick
    rows = [row for layer in _LAYERS for row in _measure_layer(layer, quick)]
    rows += [row for size in ((64,) if quick else (64, 224)) for row in _measure_network(size, quick)]
    table = Table("what", "images", "pass", "by", "ms", "min", "max", "n", "compile s", "x stock", box=SIMPLE)
    for row in rows:
        spread = row["milliseconds"]
        numbers = (f"{spread['median']:.1f}", f"{spread['min']:.1f}", f"{spread['max']:.1f}", str(row["n"]))
        what = (row["layer"], "x".join(map(str, row["images"])), row["pass"], row["convolutions"])
        table.add_row(*what, *numbers, f"{row['compile_seconds']:.1f}", f"{row['times_stock']:.1f}")
    table.caption = "ms: the median of n. backward: forward and backward."
    Console(width=120).print(table)
    if not quick:
        print(f"record: {write_record('convolution', rows)}")


def _measure_layer(layer: _Layer, quick: bool) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(0)
    images = max(1, layer.images // 8) if quick else layer.images
    shape = (images, layer.pixels, layer.pixels, layer.inputs)
    filters = (1, layer.inputs) if layer.outputs is None else (layer.inputs, layer.outputs)
    x = jnp.asarray(rng.standard_normal(shape, np.float32))
    kernel = jnp.asarray(rng.standard_normal((layer.size, layer.size, *filters), np.float32))

    def forward(x: jax.Array, kernel: jax.Array) -> jax.Array:
        # Looked up at trace time, where the stock one may stand in its place.
        convolve = convolution.depthwise if layer.outputs is None else convolution.dense
        return convolve(x, kernel, layer.stride, layer.padding)

    def backward(x: jax.Array, kernel: jax.Array, slope: jax.Array) -> Any:
        y, pullback = jax.vjp(forward, x, kernel)
        return y, pullback(slope)

    what = {"layer": layer.name, "images": shape, "outputs": layer.outputs}
    slope = jnp.asarray(rng.standard_normal(jax.eval_shape(forward, x, kernel).shape, np.float32))
    runs = 2 if quick else 5
    yield from _race({**what, "pass": "forward"}, forward, (x, kernel), runs)
    yield from _race({**what, "pass": "backward"}, backward, (x, kernel, slope), runs)


def _measure_network(size: int, quick: bool) -> Iterator[dict[str, Any]]:
    backbone, weights = load(BackboneConfig("efficientnet_lite0", "random"))
    images = jnp.asarray(np.random.default_rng(0).standard_normal((_BATCH, size, size, 3), np.float32))

    def forward(params: Any, stats: Any, x: jax.Array) -> jax.Array:
        return backbone.pool(backbone.apply(params, stats, x)[0])

    def backward(params: Any, stats: Any, x: jax.Array) -> Any:
        return jax.grad(lambda params: jnp.mean(jnp.square(forward(params, stats, x))))(params)

    arguments = (weights.params, weights.stats, images)
    for name, function in (("forward", forward), ("backward", backward)):
        # Stock needs about half a minute for one backward pass at 224 px.
        runs = 2 if quick or (size > 64 and name == "backward") else 5
        yield from _race({"layer": "EfficientNet-Lite0", "images": images.shape, "pass": name}, function, arguments, runs)


def _race(what: dict[str, Any], function: Callable[..., Any], arguments: tuple[Any, ...], runs: int) -> Iterator[dict[str, Any]]:
    """Two rows, ours and stock, which take turns."""
    ours, our_compile = _compiled(function, arguments)
    with _stock_convolutions():
        stock, stock_compile = _compiled(function, arguments)
    seconds: dict[str, list[float]] = {"ours": [], "stock": []}
    for turn in range(runs + 1):
        for kind, program in (("ours", ours), ("stock", stock)):
            start = time.perf_counter()
            jax.block_until_ready(program(*arguments))
            # The first turn fills caches and is not counted.
            if turn:
                seconds[kind].append(time.perf_counter() - start)
    for kind, compile_seconds in (("ours", our_compile), ("stock", stock_compile)):
        times = [1000 * second for second in seconds[kind]]
        yield {
            **what,
            "convolutions": kind,
            "n": runs,
            "milliseconds": {"min": min(times), "median": statistics.median(times), "max": max(times)},
            "images_per_second": what["images"][0] / statistics.median(seconds[kind]),
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
