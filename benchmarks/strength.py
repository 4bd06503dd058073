"""By what should a probe's L2 strength and its tap be chosen: by validation, which then judges, or by folds of training images?

    python -m benchmarks.strength [--quick]

Features of every second tap of EfficientNet-Lite0 (48 px), of real digits plain, in other colours, without their low frequencies
and merged to even and odd. 300 training images, 75 of validation, the rest test, drawn anew for each of ten splits. Three ways
choose of the same fits. `validation`: the strength with the least log loss there, and the tap with the best balanced accuracy.
`strength`: by folds of the training images, the tap alone by validation. `folds`, as fteng does: the tap too, with the least log
loss on training images left out. `lead`: points by which validation flatters what is chosen, validation less test; `test`: its
points on test. Differences are to `validation` over the same splits, mean and 95 % interval (Student's t; splits of one data set
share images, so it is somewhat too narrow). Quick: two splits, no record.
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
from fteng.analysis.drawn import group_folds
from fteng.analysis.metrics import METRICS
from fteng.backbones.catalogue import load
from fteng.config import BackboneConfig, DataConfig
from fteng.data.prepare import prepare
from fteng.feed import make_feed
from fteng.probe.features import extract
from fteng.probe.logistic import fit
from fteng.probe.probe import FOLDS, STRENGTHS

_TRAIN, _VAL, _SIDE = 300, 75, 48
_WAYS = ("validation", "strength", "folds")
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
        row[what] = dict(zip(_WAYS, found[:, :, index].mean(axis=0).tolist(), strict=True))
        for way in (1, 2):
            apart = found[:, way, index] - found[:, 0, index]
            half, mean = float(stats.t.ppf(0.975, splits - 1) * stats.sem(apart)), float(np.mean(apart))
            row[what][f"{_WAYS[way]}_difference"] = {"value": mean, "low": mean - half, "high": mean + half}
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
        dataset = prepare(data, backbone.preprocess.resampling, lambda *_: None)
    features = extract(backbone, weights, dataset, make_feed(dataset.images), 32, lambda _: None)
    digits = np.array([int(name) for name in dataset.classes])
    return [np.asarray(tap) for tap in features.taps[1::2]], digits[dataset.labels], len(digits)


def _one_split(taps: list[np.ndarray], labels: np.ndarray, classes: int, seed: int) -> list[list[float]]:
    """Lead and test score, in points, of what each way chooses."""
    train, val, test = np.split(np.random.default_rng(seed).permutation(len(labels)), [_TRAIN, _TRAIN + _VAL])
    folds = group_folds(labels[train], np.arange(_TRAIN), FOLDS, seed=0)
    by_val, by_folds, left_out = [], [], []
    for tap in taps:
        solution = fit(tap[train], labels[train], classes, STRENGTHS, folds)
        answers = [softmax(tap @ kernel + bias, axis=1) for kernel, bias in zip(solution.kernels, solution.biases, strict=True)]
        losses = [METRICS["log_loss"].function(labels[val], answer[val]) for answer in answers]
        for scored, one in ((by_val, int(np.argmin(losses))), (by_folds, int(np.argmin(solution.left_out)))):
            scored.append((_score(labels, answers[one], val), _score(labels, answers[one], test)))
        left_out.append(float(np.min(solution.left_out)))
    chosen = [max(scored, key=lambda pair: pair[0]) for scored in (by_val, by_folds)] + [by_folds[int(np.argmin(left_out))]]
    return [[val - test, test] for val, test in chosen]


def _score(labels: np.ndarray, answers: np.ndarray, rows: np.ndarray) -> float:
    return 100 * METRICS["balanced_accuracy"].function(labels[rows], answers[rows])


if __name__ == "__main__":
    sys.exit(main())
