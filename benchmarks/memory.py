"""Is the memory that a study predicts what its trials take?

    python -m benchmarks.memory [--quick]

Studies in processes of their own, whose steps `--dry_run` has compiled before (a compiler at work may take more than all trials):
`foreseen` is what that says, `predicted` what the study says when its trials begin, `measured` the resident memory of the process
at its peak while they run. Goal: predicted within 20 %. Linux only. Quick: one small study, no record.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.record import write_record

_ROOT = Path(__file__).parent.parent
_FEW = ("--config.train.epochs=1", "--config.judge.resamples=200", "--config.sweep.seeds=0")
_DEPTHS = "--config.sweep.freeze_depths=all,block4,0"
_CASES = {
    "EfficientNet-Lite0, 64 px, batches of 32": ("configs/demo.py", ()),
    "the same, batches of 128": ("configs/demo.py", ("--config.train.batch_size=128",)),
    "the same, one rate": ("configs/demo.py", ("--config.sweep.learning_rates=1e-3", "--config.train.batch_size=128")),
    "the same, 160 px, batches of 32": ("configs/demo.py", ("--config.data.image_size=160", "--config.data.limit=300")),
    "VGG16, 64 px, 300 images": (
        "configs/demo.py",
        ("--config.backbone.name=vgg16", "--config.backbone.last_stage=block5", "--config.data.limit=300", _DEPTHS),
    ),
}
_TOLD = re.compile(r"memory at the peak of the trials: about ([0-9.]+) GiB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small study, no record")
    quick = parser.parse_args().quick
    if not Path("/proc/self/clear_refs").exists():
        print("the peak of a process is read from /proc, which Linux alone has")
        return os.EX_UNAVAILABLE
    small = ("--config.data.limit=200", "--config.data.image_size=32")
    cases = {name: (config, (*flags, *small)) for name, (config, flags) in list(_CASES.items())[:1]} if quick else _CASES
    rows: list[dict[str, Any]] = []
    for name, (config, flags) in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            rows.append({"what": name, "n": 1, **_measure(Path(folder), config, (*_FEW, *flags)), "goal": "< 20"})
        print(rows[-1], flush=True)
    table = Table("what", "foreseen GiB", "predicted GiB", "measured GiB", "off by, %")
    for row in rows:
        table.add_row(row["what"], *(f"{row[key]:.2f}" for key in ("foreseen_gib", "predicted_gib", "measured_gib", "off_percent")))
    Console(width=120).print(table)
    if not quick:
        print(f"record: {write_record('memory', rows)}")
    return 0


def _measure(folder: Path, config: str, flags: tuple[str, ...]) -> dict[str, float]:
    command = [sys.executable, "-m", "fteng.main", f"--config={config}", f"--workdir={folder / 'study'}", *flags]
    how: dict[str, Any] = {"cwd": _ROOT, "env": os.environ | {"FTENG_CACHE": str(folder / "cache")}, "text": True}
    dry = subprocess.run([*command, "--dry_run"], **how, stdout=subprocess.PIPE, check=True)
    with subprocess.Popen(command, **how, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as study:
        predicted, measured = 0.0, 0.0
        assert study.stderr is not None
        for line in study.stderr:
            if told := _TOLD.search(line):
                predicted = float(told[1])
                # From here the kernel counts the peak anew.
                Path(f"/proc/{study.pid}/clear_refs").write_text("5")
            if line.startswith("trials: done"):
                measured = _peak_gib(study.pid)
    if study.returncode != 0 or not predicted or not measured:
        raise RuntimeError(f"{' '.join(command)} ended with {study.returncode}, and said {predicted} and {measured} GiB")
    (foreseen,) = _TOLD.findall(dry.stdout)
    return {
        "foreseen_gib": float(foreseen),
        "predicted_gib": predicted,
        "measured_gib": measured,
        "off_percent": 100 * abs(predicted / measured - 1),
    }


def _peak_gib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


if __name__ == "__main__":
    sys.exit(main())
