"""A whole sweep: fteng exhaustive, raced, and one trial at a time without cache, against the best PyTorch we could write by hand.

    python -m benchmarks.sweep [--torch-python=PYTHON] [--quick] [--studies=DIR] [--images=600] [--size=128]
                               [--depths=0,3,6,9,12,15,16,17,all]

EfficientNet-Lite0 with its weights on real scans of digits, four rates, three seeds, the recipe of fteng in both. PYTHON: one with
torch, see benchmarks/torch_sweep.py. What is measured and what is reckoned: every trial of one form and depth costs the same, so
PyTorch runs `--repeats` trials a depth in each of `--modes`, and its sweep is their median, of the mode that is faster there, times
rates and seeds; fteng's exhaustive sweep runs all rates at one seed, and counts three times, which is to its disadvantage where
caches are shared by seeds. Compiling counts for neither. Our trials of a depth share their seconds, so a range is of torch's. The
race is run whole, and its time is from the first line to the report, imports and compilation included (cold: an empty cache of
compiled programs; warm: a full one). Every fteng study is a process of its own. Quick: 200 images of 48 px, depths 9 and all, no
record.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.record import write_record
from fteng.backbones.catalogue import find
from fteng.config import Config
from fteng.config_check import from_dict
from fteng.data.pixels import Resampling
from fteng.data.prepare import prepare
from fteng.paths import StudyPaths, read_json
from fteng.process import HUGE_PAGES, TUNABLES
from fteng.train.batches import epoch_order
from fteng.train.rates import rate_factors

_ROOT = Path(__file__).parent.parent
_RATES = (1e-3, 3e-4, 1e-4, 3e-5)
_SEEDS = (0, 1, 2)
_ENDS = ("median", "min", "max")
Spread = dict[str, float]


class _Peer(NamedTuple):
    """mode: of torch, the faster; seconds: of a trial's steps in it."""

    mode: str
    seconds: Spread


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", default=sys.executable, metavar="PYTHON", help="one with torch (default: this one)")
    parser.add_argument("--quick", action="store_true", help="200 images of 48 px, depths 9 and all, no record")
    parser.add_argument("--studies", type=Path, help="folder of the studies, kept; the exhaustive ones there are not run again")
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--depths", default="0,3,6,9,12,15,16,17,all")
    parser.add_argument("--modes", default="eager", help="of torch, the faster counts: eager,compile; a minute more a depth")
    parser.add_argument("--compile-from", type=int, default=0, metavar="DEPTH", help="torch.compile is tried from this depth on")
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    _check_torch(given.torch_python)
    if given.quick:
        given.images, given.size, given.depths, given.epochs = 200, 48, "9,all", 2
    with tempfile.TemporaryDirectory() as folder:
        rows = _measure((given.studies or Path(folder)).resolve(), given)
    table = Table("what", "value", "unit", "n", "goal")
    for row in rows:
        value = row["value"]
        shown = (
            f"{value:,.2f}" if isinstance(value, float) else f"{value['median']:,.2f} [{value['min']:,.2f}, {value['max']:,.2f}]"
        )
        table.add_row(row["what"], shown, row["unit"], str(row["n"]), row["goal"])
    Console().print(table)
    if not given.quick:
        print(f"record: {write_record('sweep', rows)}")


def _check_torch(python: str) -> None:
    """Before fteng's own studies, which would be for nothing."""
    try:
        missing = subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode != 0
    except OSError:
        missing = True
    if missing:
        print(f"{python} has no torch: pip install 'fteng[bench]', or name another by --torch-python", file=sys.stderr)
        sys.exit(os.EX_UNAVAILABLE)


def _measure(folder: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
    depths = given.depths.split(",")
    many = len(_RATES) * len(_SEEDS)
    one_seed = _study(folder / "exhaustive", folder, given, depths, _RATES, _SEEDS[:1])
    alone = _study(folder / "alone", folder, given, depths, _RATES[:1], _SEEDS[:1], "--config.sweep.cache_gib=0")
    # Their own seconds count, so they are run anew.
    for name in ("race", "cold", "empty"):
        shutil.rmtree(folder / name, ignore_errors=True)
    raced = {"warm": _study(folder / "race", folder, given, depths, _RATES, _SEEDS, "--config.sweep.search=race")}
    raced["cold"] = _study(folder / "cold", folder / "empty", given, depths, _RATES, _SEEDS, "--config.sweep.search=race")
    peer = _torch(folder, given, depths, one_seed)
    ours = {depth: _spread(_trial_seconds(one_seed, depth)) for depth in depths}
    lonely = {depth: _spread(_trial_seconds(alone, depth)) for depth in depths}
    plain, cached = (_total([peer[form, depth].seconds for depth in depths], many) for form in ("plain", "cached"))
    # Filling the caches is shared by every trial, so it counts once.
    exhaustive = _total(list(ours.values()), many, one_seed["phases"].get("prefix", 0.0))
    rows: list[tuple[str, float | Spread, str, str]] = [
        ("torch, one run after the other (a): the sweep", plain, "s", ""),
        ("torch, features cached by hand (b): the sweep", cached, "s", ""),
        ("fteng exhaustive: the trials and the caches", exhaustive, "s", ""),
        ("fteng, one trial at a time without cache (c)", _total(list(lonely.values()), many), "s", ""),
        ("exhaustive against (a)", _ratio(plain, exhaustive), "x", ">= 3"),
        ("exhaustive against (b)", _ratio(cached, exhaustive), "x", ">= 1.5"),
    ]
    for state, found in raced.items():
        took = _spread([found["seconds"]])
        rows.append((f"race, {state}: from the first line to the report", found["seconds"], "s", ""))
        rows.append((f"race, {state}, against (a) exhaustive", _ratio(plain, took), "x", ">= 10"))
    race = raced["warm"]["race"]
    rows.append(("race: share of the epochs of an exhaustive sweep", race["epochs_run"] / race["epochs_exhaustive"], "", ""))
    rows.append(("race: recommended test score", raced["warm"]["score"], raced["warm"]["label"], ""))
    rows.append(("exhaustive (one seed): recommended test score", one_seed["score"], one_seed["label"], "within 0.01"))
    for depth in depths:
        # At 16 the last block trains, and the convolution behind it.
        goal = {"all": ">= 100", "16": ">= 15"}.get(depth, "")
        for form, letter, bound in (("plain", "a", goal), ("cached", "b", "")):
            best = peer[form, depth]
            rows.append(
                (
                    f"steps of a trial at depth {depth} against ({letter}, {best.mode})",
                    _ratio(best.seconds, ours[depth]),
                    "x",
                    bound,
                )
            )
    summed = one_seed["predicted"], one_seed["trained"]
    rows.append(("predicted seconds of all trials over measured", summed[0] / summed[1], "", "1"))
    rows.append(("peak memory of the exhaustive study", one_seed["peak_bytes"] / 2**30, "GiB", ""))
    # Our trials of a depth advance together: one measurement, shared.
    counts = {True: given.repeats, False: 1}
    return [
        {"what": what, "value": value, "unit": unit, "goal": goal, "n": counts[isinstance(value, dict)]}
        for what, value, unit, goal in rows
    ]


def _spread(seconds: Sequence[float]) -> Spread:
    return {"median": float(np.median(seconds)), "min": min(seconds), "max": max(seconds)}


def _total(parts: Sequence[Spread], times: int, more: float = 0.0) -> Spread:
    """All parts so many times, and what comes once."""
    return {key: times * sum(part[key] for part in parts) + more for key in _ENDS}


def _ratio(peer: Spread, ours: Spread) -> Spread:
    """How many times as fast ours is: the fastest of one side against the slowest of the other at the ends."""
    return {"median": peer["median"] / ours["median"], "min": peer["min"] / ours["max"], "max": peer["max"] / ours["min"]}


def _study(
    workdir: Path,
    cache: Path,
    given: argparse.Namespace,
    depths: Sequence[str],
    rates: Sequence[float],
    seeds: Sequence[int],
    *flags: str,
) -> dict[str, Any]:
    """One study, its seconds from the first line to the last, and what it says of itself."""
    command = [
        *(sys.executable, "-m", "fteng.main", "--config=configs/digits.py", f"--workdir={workdir}"),
        f"--config.data.limit={given.images}",
        f"--config.data.image_size={given.size}",
        f"--config.train.epochs={given.epochs}",
        f"--config.sweep.freeze_depths={','.join(depths)}",
        f"--config.sweep.learning_rates={','.join(map(str, rates))}",
        f"--config.sweep.seeds={','.join(map(str, seeds))}",
        *flags,
    ]
    started = time.perf_counter()
    if not (workdir / "report" / "summary.json").exists():
        subprocess.run(command, cwd=_ROOT, env=os.environ | {"FTENG_CACHE": str(cache)}, check=True, capture_output=True)
    seconds = time.perf_counter() - started
    summary = read_json(workdir / "report" / "summary.json")
    row = summary["depth_curve"][summary["recommendation"]["row"]]
    costs = [trial["cost"] for trial in summary["trials"] if trial["status"] == "done"]
    return {
        "workdir": workdir,
        "seconds": seconds,
        "trials": summary["trials"],
        "phases": summary["run"]["seconds_by_phase"],
        "peak_bytes": summary["run"]["peak_bytes"],
        "race": summary["race"],
        "label": row["label"],
        "score": row["test"][summary["recommendation"]["metric"]]["value"],
        "predicted": sum(cost["predicted_seconds"] - cost["prefix_seconds"] for cost in costs),
        "trained": sum(_steps(cost) for cost in costs),
    }


def _trial_seconds(study: dict[str, Any], depth: str) -> list[float]:
    """Of the trials of a depth; of their steps alone, as of the peer's: evaluation, checkpoints and records are in neither."""
    stages = 18 if depth == "all" else int(depth)
    return [_steps(trial["cost"]) for trial in study["trials"] if trial["freeze_depth"] == stages]


def _steps(cost: dict[str, float]) -> float:
    return cost["seconds"] - cost["prefix_seconds"]


def _torch(folder: Path, given: argparse.Namespace, depths: Sequence[str], study: dict[str, Any]) -> dict[tuple[str, str], _Peer]:
    """Seconds of a trial's steps by form and depth, in the better mode; a cache's seconds are shared by its trials."""
    config: Config = from_dict(read_json(study["workdir"] / "study.json")["config"])
    config.data.cache_dir = str(folder)
    network = find("efficientnet_lite0")
    dataset = prepare(config.data, Resampling("bicubic"), lambda *_: None)
    train = dataset.splits["train"]
    heads = np.load(StudyPaths(study["workdir"]).heads("pretrained"))
    epochs = range(config.train.epochs)
    orders = [[epoch_order(dataset.labels[train], seed=seed, epoch=epoch) for epoch in epochs] for seed in _SEEDS]
    steps = len(train) // config.train.batch_size * config.train.epochs
    arrays = folder / "job.npz"
    np.savez(
        arrays,
        images=dataset.images,
        labels=dataset.labels,
        orders=np.array(orders),
        factors=rate_factors(config.train, steps),
        head_kernel=heads["conv_head/kernel"],
        head_bias=heads["conv_head/bias"],
        train=train,
        val=dataset.splits["val"],
        test=dataset.splits["test"],
    )
    assert network.package is not None
    job = {
        "arrays": str(arrays),
        "weights": str(network.package.path()),
        "forms": ["plain", "cached"],
        "depths": [18 if depth == "all" else int(depth) for depth in depths],
        "rates": list(_RATES),
        "seeds": list(_SEEDS),
        "batch": config.train.batch_size,
        "weight_decay": config.train.weight_decay,
        "clip_norm": config.train.clip_norm,
        "threads": len(os.sched_getaffinity(0)),
        "cache_bytes": 8 << 30,
        "logits": "",
    }
    lines: list[str] = []
    for mode in given.modes.split(","):
        tried = [depth for depth in job["depths"] if mode == "eager" or depth >= given.compile_from]
        (folder / "job.json").write_text(json.dumps(job | {"modes": [mode], "depths": tried}), encoding="utf-8")
        command = [given.torch_python, "benchmarks/torch_sweep.py", str(folder / "job.json"), "--measure-rates", "1"]
        command += ["--measure-seeds", "1", "--repeats", str(given.repeats)]
        # Huge pages, as fteng's commands ask for them.
        told = os.environ | {TUNABLES: f"{HUGE_PAGES}=1"}
        ended = subprocess.run(command, cwd=_ROOT, env=told, check=True, stdout=subprocess.PIPE, text=True)
        lines += ended.stdout.splitlines()
    found: dict[tuple[str, str, str], list[float]] = {}
    fill: dict[str, float] = {}
    for line in map(json.loads, lines):
        depth = "all" if line.get("depth") == 18 else str(line.get("depth"))
        if line["what"] == "trial":
            found.setdefault((line["form"], depth, line["mode"]), []).append(line["seconds"])
        elif line["what"] == "cache":
            fill.setdefault(depth, line["seconds"])
    best: dict[tuple[str, str], _Peer] = {}
    for (form, depth, mode), seconds in found.items():
        shared = fill.get(depth, 0.0) / (len(_RATES) * len(_SEEDS)) if form == "cached" else 0.0
        peer = _Peer(mode, _spread([one + shared for one in seconds]))
        if (form, depth) not in best or peer.seconds["median"] < best[form, depth].seconds["median"]:
            best[form, depth] = peer
    return best


if __name__ == "__main__":
    main()
