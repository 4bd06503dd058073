"""By what should a probe's L2 strength be chosen: by validation, which then judges, or by folds of the training images?

    python -m benchmarks.strength [--quick]

Features of every second tap of EfficientNet-Lite0 (48 px), of real digits plain, in other colours, without their low frequencies
and merged to even and odd. 300 training images, 75 of validation, the rest test, drawn anew for each of ten splits. Both ways
choose of the same fits; of the taps the one with the best balanced accuracy on validation is taken. `lead`: points by which its
validation flatters it, validation less test; `test`: its points on test. Differences are folds less validation over the same
splits, mean and 95 % interval (Student's t; splits of one data set share images, so it is somewhat too narrow). Quick: two
splits, no record.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import softmax

from benchmarks.collection import coloured, high_pass, write_digits
from benchmarks.record import write_record
from fteng.analysis.metrics import METRICS
from fteng.backbones.catalogue import load
from fteng.config import BackboneConfig, DataConfig
from fteng.data.prepare import prepare
from fteng.feed import make_feed
from fteng.probe.features import extract
from fteng.probe.logistic import fit
from fteng.probe.probe import FOLDS, STRENGTHS
from fteng.similarity.rows import group_folds

_TRAIN, _VAL, _SIDE = 300, 75, 48
_DATA: dict[str, Callable[[Path], None] | None] = {
    "digits": None,
    "digits-merged": None,
    "digits-colour": partial(write_digits, coloured),
    "digits-frequency": partial(write_digits, high_pass),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two splits, no record")
    quick = parser.parse_args().quick
    rows = [_row(name, write, 2 if quick else 10) for name, write in _DATA.items()]
    if not quick:
        print(f"record: {write_record('strength', rows)}")
    return 0


def _row(name: str, write: Callable[[Path], None] | None, splits: int) -> dict[str, Any]:
    taps, labels, classes = _features(write)
    if name == "digits-merged":
        labels, classes = labels % 2, 2
    found = np.array([_one_split(taps, labels, classes, seed) for seed in range(splits)])
    row: dict[str, Any] = {"data": name, "train": _TRAIN, "val": _VAL, "taps": len(taps), "n": splits}
    for index, what in enumerate(("lead", "test")):
        by_val, by_folds = found[:, 0, index], found[:, 1, index]
        half = float(stats.t.ppf(0.975, splits - 1) * stats.sem(by_folds - by_val))
        mean = float(np.mean(by_folds - by_val))
        difference = {"value": mean, "low": mean - half, "high": mean + half}
        row[what] = {"validation": float(by_val.mean()), "folds": float(by_folds.mean()), "difference": difference}
    print(row, flush=True)
    return row


def _features(write: Callable[[Path], None] | None) -> tuple[list[np.ndarray], np.ndarray, int]:
    """(n, channels) of each tap, and labels that are the digits."""
    backbone, weights = load(BackboneConfig("efficientnet_lite0", "package"))
    with tempfile.TemporaryDirectory() as folder:
        data = DataConfig(source="digits", image_size=_SIDE)
        if write is not None:
            write(Path(folder))
            data = DataConfig(source="folder", path=folder, image_size=_SIDE)
        dataset = prepare(data, backbone.preprocess.interpolation, lambda *_: None, crop=backbone.preprocess.crop)
    features = extract(backbone, weights, dataset, make_feed(dataset.images), 32, lambda _: None)
    digits = np.array([int(name) for name in dataset.classes])
    return [np.asarray(tap) for tap in features.taps[1::2]], digits[dataset.labels], len(digits)


def _one_split(taps: list[np.ndarray], labels: np.ndarray, classes: int, seed: int) -> list[list[float]]:
    """Lead and test score, in points, of the tap chosen: by validation, and by folds."""
    train, val, test = np.split(np.random.default_rng(seed).permutation(len(labels)), [_TRAIN, _TRAIN + _VAL])
    folds = group_folds(labels[train], np.arange(_TRAIN), FOLDS, seed=0)
    scored: list[list[tuple[float, float]]] = []
    for tap in taps:
        solution = fit(tap[train], labels[train], classes, STRENGTHS, folds)
        answers = [softmax(tap @ kernel + bias, axis=1) for kernel, bias in zip(solution.kernels, solution.biases, strict=True)]
        losses = [METRICS["log_loss"].function(labels[val], answer[val]) for answer in answers]
        strengths = int(np.argmin(losses)), int(np.argmin(solution.left_out))
        scored.append([(_score(labels, answers[one], val), _score(labels, answers[one], test)) for one in strengths])
    chosen = [max((of_tap[way] for of_tap in scored), key=lambda pair: pair[0]) for way in (0, 1)]
    return [[val - test, test] for val, test in chosen]


def _score(labels: np.ndarray, answers: np.ndarray, rows: np.ndarray) -> float:
    return 100 * METRICS["balanced_accuracy"].function(labels[rows], answers[rows])


if __name__ == "__main__":
    sys.exit(main())
