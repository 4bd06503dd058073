"""Trials that share their batches: a call a trial, or one call for all? Steps of 4 trials, and of 32 for a linear probe.

    python -m benchmarks.population [--quick]

EfficientNet-Lite0 at 64 px, batches of 32, ten classes, at four boundaries. Three programs do the same work and take turns, so that
what else the machine does falls on all: `turns`, a call of the compiled step for each trial, which is what a study does; `scan`,
one call whose loop takes the trials one after the other; `vmap`, one call that takes all at once. `error`: largest difference of
what trains from `turns` after the steps, relative to its largest number; 0: the same bits. Quick: 3 steps, two boundaries, no
record.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.record import write_record
from fteng.backbones.catalogue import load
from fteng.config import BackboneConfig, TrainConfig
from fteng.entry import Entry
from fteng.freeze.plan import parse_freeze_depth, prefix_plan
from fteng.train.shape import shape_of
from fteng.train.start import Start, untrained
from fteng.train.step import initial_state, make_step
from fteng.trials import Variant

_SIZE, _BATCH, _CLASSES = 64, 32, 10
Tree = Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 steps, two boundaries, no record")
    quick = parser.parse_args().quick
    cases = [("all", 4), ("16", 4)] if quick else [("all", 4), ("all", 32), ("16", 4), ("8", 4), ("0", 4)]
    rows = [row for depth, trials in cases for row in _measure(depth, trials, 3 if quick else 15)]
    table = Table("frozen stages", "trials", "program", "ms a trial's step", "min", "max", "x turns", "error", "compile s")
    for row in rows:
        spread = row["milliseconds"]
        times = (f"{spread['median']:.2f}", f"{spread['min']:.2f}", f"{spread['max']:.2f}", f"{row['times_turns']:.2f}")
        table.add_row(
            row["frozen"], str(row["trials"]), row["program"], *times, f"{row['error']:.1e}", f"{row['compile_seconds']:.1f}"
        )
    Console(width=120).print(table)
    if not quick:
        print(f"record: {write_record('population', rows)}")


def _measure(depth: str, trials: int, steps: int) -> list[dict[str, Any]]:
    backbone, weights = load(BackboneConfig("efficientnet_lite0", "package"))
    recipe, variant = TrainConfig(), Variant()
    plan = prefix_plan(backbone.stages, parse_freeze_depth(depth, backbone.stages, backbone.groups))
    shape = shape_of(plan, variant, recipe)
    rng = np.random.default_rng(0)
    head = {"kernel": jnp.asarray(rng.normal(0, 0.01, (backbone.channels[-1], _CLASSES)), jnp.float32), "bias": jnp.zeros(_CLASSES)}
    numbers = weights.params, weights.stats
    network = untrained(Start(*numbers, {plan.tap: head}, {}, numbers), shape)
    step = make_step(backbone, shape, network.mask, recipe, np.full(_CLASSES, 1 / _CLASSES))
    frozen = initial_state(network, recipe)[1]
    x = jnp.asarray(_activations(backbone, weights, shape.entry, rng))
    labels = jnp.asarray(rng.integers(0, _CLASSES, _BATCH), jnp.int32)
    rates = jnp.asarray(np.geomspace(1e-4, 1e-3, trials)[:, None] * np.ones(len(plan.stages) + 1), jnp.float32)
    key = jax.random.key(0)

    def together(state: Tree, frozen: Tree, x: Tree, labels: Tree, rates: Tree, key: Tree) -> Tree:
        return jax.vmap(step, in_axes=(0, None, None, None, 0, None))(state, frozen, x, labels, rates, key)

    def looped(state: Tree, frozen: Tree, x: Tree, labels: Tree, rates: Tree, key: Tree) -> Tree:
        return jax.lax.map(lambda one: step(one[0], frozen, x, labels, one[1], key), (state, rates))

    def fresh() -> list[Tree]:
        return [initial_state(network, recipe)[0] for _ in range(trials)]

    def stacked() -> Tree:
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *fresh())

    constant = (frozen, x, labels)
    alone, compile_alone = _compiled(step, (fresh()[0], *constant, rates[0], key))
    many = {
        "scan": _compiled(looped, (stacked(), *constant, rates, key)),
        "vmap": _compiled(together, (stacked(), *constant, rates, key)),
    }
    each, states = fresh(), {name: stacked() for name in many}
    each_rates = list(rates)
    seconds: dict[str, list[float]] = {"turns": [], **{name: [] for name in many}}
    for turn in range(steps + 1):
        started = time.perf_counter()
        each = [alone(state, *constant, rate, key) for state, rate in zip(each, each_rates, strict=True)]
        jax.block_until_ready(each)
        taken = {"turns": time.perf_counter() - started}
        for name, (program, _) in many.items():
            started = time.perf_counter()
            states[name] = jax.block_until_ready(program(states[name], *constant, rates, key))
            taken[name] = time.perf_counter() - started
        # The first turn fills caches and is not counted.
        if turn:
            for name, value in taken.items():
                seconds[name].append(value)
    wanted = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(state.trainable for state in each))
    rows = []
    for name, values in seconds.items():
        times = [1000 * value / trials for value in values]
        rows.append(
            {
                "frozen": depth,
                "trials": trials,
                "program": name,
                "n": steps,
                "milliseconds": {"min": min(times), "median": statistics.median(times), "max": max(times)},
                "times_turns": statistics.median(seconds["turns"]) / statistics.median(values),
                "error": 0.0 if name == "turns" else _error(wanted, states[name].trainable),
                "compile_seconds": compile_alone if name == "turns" else many[name][1],
            }
        )
    return rows


def _activations(backbone: Any, weights: Any, entry: Entry, rng: np.random.Generator) -> Tree:
    """What a batch of noise is where the trials enter."""
    x = jnp.asarray(rng.standard_normal((_BATCH, _SIZE, _SIZE, 3)), jnp.float32)
    y = jax.jit(partial(backbone.apply, start=0, stop=entry.stage))(weights.params, weights.stats, x)[0] if entry.stage else x
    return backbone.pool(y) if entry.pooled else y


def _error(wanted: Tree, found: Tree) -> float:
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(wanted))
    return (
        max(float(jnp.abs(one - other).max()) for one, other in zip(jax.tree.leaves(wanted), jax.tree.leaves(found), strict=True))
        / largest
    )


def _compiled(function: Callable[..., Tree], arguments: tuple[Tree, ...]) -> tuple[Callable[..., Tree], float]:
    started = time.perf_counter()
    program = jax.jit(function, donate_argnums=0).lower(*arguments).compile()
    return program, time.perf_counter() - started


if __name__ == "__main__":
    main()
