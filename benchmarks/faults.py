"""SIGKILL at random moments: does a study in parts end with the same bits?

    python -m benchmarks.faults [--kills=200] [--seed=0] [--quick]

One undisturbed study (python -m fteng.main), then the same by python -m launch.sweep with two workers, killed again and again: the
launcher, a worker, or all processes at once, after a random time; each time a study ends, its metrics and logits are compared with
the undisturbed ones to the bit, and the next one begins. Goal: every study that ends is identical. Quick: 10 kills.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.record import write_record
from fteng.results import read_predictions

_FLAGS = (
    "--config=configs/digits.py",
    "--config.data.limit=200",
    "--config.data.image_size=32",
    "--config.train.epochs=2",
    "--config.train.checkpoint_every=2",
    "--config.judge.resamples=200",
    "--config.sweep.freeze_depths=16,17,all",
    "--config.sweep.seeds=0",
)
# Kills without a study's end: something is stuck.
_LIMIT = 60


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="10 kills, no record")
    given = parser.parse_args()
    wanted = 10 if given.quick else given.kills
    with tempfile.TemporaryDirectory() as folder:
        rng = random.Random(given.seed)
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "fteng.main", *_FLAGS, f"--workdir={folder}/whole"], check=True, capture_output=True)
        seconds = time.perf_counter() - began
        reference = outcome(Path(folder) / "whole")
        kills: dict[str, int] = {"launcher": 0, "worker": 0, "all": 0}
        ends = {"identical": 0, "different": 0}
        while sum(kills.values()) < wanted:
            workdir = Path(folder) / f"study{sum(ends.values())}"
            _to_its_end(workdir, rng, seconds, kills, wanted)
            ends["identical" if outcome(workdir) == reference else "different"] += 1
            print(f"{sum(kills.values())} kills ({kills}), studies: {ends}", flush=True)
    row = {"n": sum(ends.values()), "kills": kills, "seed": given.seed, **ends, "seconds": time.perf_counter() - began}
    if not given.quick:
        print(write_record("faults", [row]))
    return 0 if ends["different"] == 0 else 1


def _to_its_end(workdir: Path, rng: random.Random, seconds: float, kills: dict[str, int], wanted: int) -> None:
    """One study, killed at random until the kills are used up or it was quicker."""
    launcher, mine = None, 0
    while True:
        if launcher is None or launcher.poll() not in (None, 0):
            flags = (*_FLAGS, f"--workdir={workdir}", "--config.launch.workers=2")
            with (workdir.parent / f"{workdir.name}.log").open("a") as log:
                launcher = subprocess.Popen([sys.executable, "-m", "launch.sweep", *flags], stdout=log, stderr=log)
        try:
            spent = sum(kills.values()) >= wanted
            launcher.wait(timeout=None if spent else rng.uniform(0.2, seconds))
        except subprocess.TimeoutExpired:
            mine += 1
            if mine > _LIMIT:
                raise RuntimeError(f"{workdir}: {mine} kills and no end; its log is {workdir}.log") from None
            kills[_kill(launcher, workdir, rng)] += 1
            continue
        if launcher.returncode == 0:
            return
        if launcher.returncode not in (-signal.SIGKILL, 1):
            raise RuntimeError(
                f"the launcher ended with {launcher.returncode}: {(workdir.parent / f'{workdir.name}.log').read_text()}"
            )


def _kill(launcher: "subprocess.Popen[bytes]", workdir: Path, rng: random.Random) -> str:
    """Whom it has met."""
    workers = [pid for pid in _processes(workdir) if pid != launcher.pid]
    whom = rng.choice(["launcher", "worker", "all"] if workers else ["launcher"])
    victims = {"launcher": [launcher.pid], "worker": workers[:1], "all": [launcher.pid, *workers]}[whom]
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    if launcher.pid in victims:
        launcher.wait()
    return whom


def _processes(workdir: Path) -> list[int]:
    """Those whose command line names the work directory."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(str(workdir).encode() in (word, word.partition(b"=")[2]) for word in words):
            found.append(int(file.parent.name))
    return sorted(found)


def outcome(workdir: Path) -> str:
    """A digest of every metric and every logit of a study, without times."""
    digest = hashlib.sha256()
    summary = json.loads((workdir / "report" / "summary.json").read_text())
    for trial in sorted(summary["trials"], key=lambda trial: trial["id"]):
        digest.update(json.dumps([trial[name] for name in ("id", "status", "val", "test")]).encode())
    for file in sorted((workdir / "trials").glob("*/predictions.parquet")):
        for split, answers in sorted(read_predictions(file).items()):
            digest.update(f"{file.parent.name} {split}".encode() + answers.logits.tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
