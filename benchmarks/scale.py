"""The launcher at a size no test machine has: 10,000 trials on 1,000 preemptible nodes, simulated with the real planner.

    python -m benchmarks.scale [--quick] [--seed=0]

A discrete-event simulation: units come from fteng.jobs.plan.make_units, their order from fteng.jobs.claims.in_order; nodes are
preempted at a given rate and come back later, a share of preemptions is without notice (work since the last checkpoint is lost),
and some trials break every time. Reported: makespan against the lower bound (all work / nodes, or the longest unit), wasted work,
calls to the scheduler and turns at the mutex a minute. What a turn takes, and a look at the standing, is measured on this machine,
with real files and the real `pull` and `standing`. Quick: 500 trials, 50 nodes, no record.
"""

import argparse
import heapq
import os
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.record import write_record
from fteng import paths
from fteng.config import Config, LaunchConfig, to_dict
from fteng.jobs.claims import in_order, pull, write_plan
from fteng.jobs.files import JobFiles
from fteng.jobs.plan import Unit, make_units
from fteng.paths import StudyPaths
from fteng.trials import TrialWork
from launch.status import standing

_STARTUP = 30.0
_CHECKPOINT = 60.0
_AWAY = 600.0
# Of launch.sweep: one question to the scheduler each.
_POLL = 10.0
_REPEATS = 3
_LOOKS = 5


class Night(NamedTuple):
    """lifetime: mean seconds between preemptions of a node (0: never); silent: share of them without notice; broken: share of the
    trials that always break."""

    lifetime: float
    silent: float
    broken: float


def study(trials: int, rng: random.Random) -> list[TrialWork]:
    """As a sweep has them: tracks of very different length (0.5 to 30 minutes a trial), four rates, five seeds."""
    tracks = trials // 20
    found = []
    for track in range(tracks):
        seconds = 30.0 * 60 ** rng.random()
        walk = rng.uniform(0.0, 60.0)
        found += [TrialWork(f"{track}-{rate}-{seed}", f"x/{track}", seed, seconds, walk) for seed in range(5) for rate in range(4)]
    return found


def simulate(work: list[TrialWork], nodes: int, night: Night, rng: random.Random, tries: int = 3) -> dict[str, float]:
    """One study from the end of its survey to its last unit."""
    units = make_units(work, nodes)
    longest, total = max(unit.seconds for unit in units), sum(unit.seconds for unit in units)
    bad = {one.trial for one in work if rng.random() < night.broken}
    left = {unit.name: unit.seconds for unit in units}
    turns: dict[str, str] = {}
    failures: dict[str, int] = {}
    spent = wasted = now = 0.0
    pulls = given_up = queued = 0
    events: list[tuple[float, int, str]] = []
    busy: dict[int, tuple[Unit, float, float, str]] = {}
    dies = {node: rng.expovariate(1 / night.lifetime) if night.lifetime else float("inf") for node in range(nodes)}
    for node in range(nodes):
        heapq.heappush(events, (rng.uniform(0, _STARTUP), node, "free"))
    while events:
        now, node, what = heapq.heappop(events)
        if what == "end":
            unit, began, _, fate = busy.pop(node)
            ran = now - began
            spent += ran
            if fate == "preempted":
                kept = ran if rng.random() >= night.silent else _CHECKPOINT * (ran // _CHECKPOINT)
                wasted += ran - kept
                left[unit.name] = max(0.0, left[unit.name] - kept)
                turns[unit.name] = "free"
                queued += 1
                heapq.heappush(events, (now + rng.expovariate(1 / _AWAY) + _STARTUP, node, "back"))
                continue
            if fate == "broken":
                wasted += ran
                failures[unit.name] = failures.get(unit.name, 0) + 1
                turns[unit.name] = "free"
                if failures[unit.name] >= tries:
                    turns[unit.name] = "failed"
                    if len(unit.trials) == 1:
                        given_up += 1
                    else:
                        each = unit.seconds / len(unit.trials)
                        parts = [Unit(f"{unit.name}.{index}", (trial,), each) for index, trial in enumerate(unit.trials)]
                        units += parts
                        left |= {part.name: each for part in parts}
            else:
                turns[unit.name] = "done"
        if what == "back":
            dies[node] = now + rng.expovariate(1 / night.lifetime)
        pulls += 1
        looked = in_order(units, turns)
        chosen = next((unit for unit in looked if turns.get(unit.name, "free") == "free"), None)
        if chosen is None:
            continue
        turns[chosen.name] = "begun"
        length = left[chosen.name]
        fate = "broken" if bad.intersection(chosen.trials) else "done"
        length = length * rng.random() if fate == "broken" else length
        if now + length > dies[node]:
            fate, length = "preempted", max(0.0, dies[node] - now)
        busy[node] = (chosen, now, length, fate)
        heapq.heappush(events, (now + length, node, "end"))
    bound = max(longest, total / nodes)
    return {
        "makespan_hours": now / 3600,
        "makespan / lower bound": now / bound,
        "wasted share of work": wasted / max(spent, 1e-9),
        "units": float(len(units)),
        "given up": float(given_up),
        "scheduler calls a minute": 60 / _POLL + 60 * queued / max(now, 1e-9),
        "turns at the mutex a minute": 60 * pulls / max(now, 1e-9),
    }


def turn_seconds(work: list[TrialWork], nodes: int) -> tuple[list[float], list[float], int]:
    """Seconds of `pull` on real files of this machine, with as many units begun as there are nodes; of looks then; units."""
    with tempfile.TemporaryDirectory() as folder:
        here = StudyPaths(Path(folder))
        files = JobFiles(here.launch)
        files.root.mkdir(parents=True)
        rows = [{"id": one.trial} for one in work]
        paths.write_json(here.study, {"trials": rows, "versions": {}, "git": "none"})
        config = Config(launch=LaunchConfig(workers=nodes))
        paths.write_json(files.config, {"config": to_dict(config), "command": ""})
        plan = write_plan(files, work, config)
        taken, held = [], []
        # Each claim keeps a descriptor open, as each worker would.
        for index in range(min(nodes, 400)):
            began = time.perf_counter()
            claim = pull(files, here, f"w{index}")
            taken.append(time.perf_counter() - began)
            if claim is not None:
                held.append(claim)
        looks = []
        for _ in range(_LOOKS):
            began = time.perf_counter()
            standing(here.root)
            looks.append(time.perf_counter() - began)
        for claim in held:
            os.close(claim.handle)
    return taken, looks, len(plan.units)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="500 trials, 50 nodes, no record")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    trials, nodes = (500, 50) if given.quick else (10_000, 1_000)
    nights = {
        "quiet": Night(0, 0, 0),
        "preempted every 2 h, with notice": Night(7200, 0, 0),
        "preempted every 2 h, half of it without notice": Night(7200, 0.5, 0),
        "preempted every 20 min, half of it without notice": Night(1200, 0.5, 0),
        "the same, and 1 % of the trials broken": Night(1200, 0.5, 0.01),
    }
    rows = []
    for name, night in nights.items():
        found = []
        for repeat in range(_REPEATS):
            rng = random.Random(f"{given.seed} {repeat}")
            found.append(simulate(study(trials, rng), nodes, night, rng))
        row: dict[str, object] = {"night": name, "trials": trials, "nodes": nodes, "n": _REPEATS, "seed": given.seed}
        print(f"{name}: {trials:,} trials on {nodes:,} nodes, n = {_REPEATS}")
        for key in found[0]:
            values = [one[key] for one in found]
            row[key] = {"median": statistics.median(values), "low": min(values), "high": max(values)}
            print(f"  {key:<28} {statistics.median(values):10.3f}   [{min(values):.3f}, {max(values):.3f}]")
        rows.append(row)
    taken, looks, units = turn_seconds(study(trials, random.Random(given.seed)), nodes)
    milliseconds = sorted(1000 * one for one in taken)
    middle, worst = statistics.median(milliseconds), milliseconds[int(0.95 * len(milliseconds))]
    rows.append({"turn": "pull on this machine's disk", "n": len(taken), "median_ms": middle, "p95_ms": worst})
    print(f"a turn at the mutex on this machine's disk: median {middle:.2f} ms, 95 % below {worst:.2f} ms, n = {len(taken)}")
    milliseconds = sorted(1000 * one for one in looks)
    row = {"look": "standing on this machine's disk", "units": units, "running": len(taken), "n": len(looks)}
    rows.append(row | {"median_ms": statistics.median(milliseconds), "low_ms": milliseconds[0], "high_ms": milliseconds[-1]})
    print(f"a look at {units:,} units: median {statistics.median(milliseconds):.0f} ms, n = {len(looks)}")
    if not given.quick:
        print(write_record("scale", rows))


if __name__ == "__main__":
    main()
