"""The linear classifiers of every tap against scikit-learn's on the same features, and against the pass over the images.

    python -m benchmarks.probes [--quick]

Features of every tap of EfficientNet-Lite0 on 1,000 real digits at 128 px, ten L2 strengths, five folds of the training images.
fteng.probe.logistic.fit takes all strengths of a fold at once; the peer is scikit-learn's LogisticRegression (lbfgs) on the same
standardised features, a strength after the other, each begun at the last one's solution, at the loosest tolerance whose training
loss is as low as ours to a millionth of the loss at zero (or its tightest), on every third tap and two of the folds, since it takes
minutes. Goals: 20 times scikit-learn; all folds of all taps in 0.1 of the pass over the images. Beside it what a study spends: all
images and the folds in one call. Quick: 300 images of 64 px, one repeat, no record.
"""

import argparse
import time
import warnings
from collections.abc import Iterable

import numpy as np
from jax import block_until_ready
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from benchmarks.record import write_record
from fteng.backbones.catalogue import load
from fteng.config import BackboneConfig, DataConfig
from fteng.data.prepare import prepare
from fteng.feed import make_feed
from fteng.probe.features import extract
from fteng.probe.logistic import fit

_STRENGTHS = np.logspace(-4, 0.5, 10)
_FOLDS = 5
_TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5)
# What the peer is asked; the last tap, the widest, is one of them.
_PEER_TAPS, _PEER_FOLDS = slice(2, None, 3), (0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="300 images of 64 px, one repeat, no record")
    quick = parser.parse_args().quick
    backbone, weights = load(BackboneConfig("efficientnet_lite0", "package"))
    size, limit, repeats = (64, 300, 1) if quick else (128, 1000, 3)
    data = DataConfig(source="digits", image_size=size, limit=limit)
    dataset = prepare(data, backbone.preprocess.resampling, lambda *_: None)
    feed = make_feed(dataset.images)
    passes = []
    features = None
    for _ in range(repeats + 1):
        began = time.perf_counter()
        features = block_until_ready(extract(backbone, weights, dataset, feed, 32, lambda _: None))
        passes.append(time.perf_counter() - began)
    assert features is not None, "at least one pass"
    # The first one compiled.
    passes = passes[1:]
    rows = np.sort(dataset.splits["train"])
    fold = np.random.default_rng(0).permutation(len(rows)) % _FOLDS
    labels, classes = dataset.labels[rows], len(dataset.classes)
    folds = [np.flatnonzero(fold == out) for out in range(_FOLDS)]
    asked = features.taps[_PEER_TAPS]
    ours, both, theirs, apart, study = [], [], [], [], []
    for repeat in range(repeats + 1):
        began = time.perf_counter()
        for tap in features.taps:
            _ours(tap[rows], labels, classes, fold, range(_FOLDS))
        ours.append(time.perf_counter() - began)
        print(f"ours: {ours[-1]:.2f} s for {len(features.taps)} taps", flush=True)
        began = time.perf_counter()
        for tap in features.taps:
            fit(tap[rows], labels, classes, _STRENGTHS, folds)
        study.append(time.perf_counter() - began)
        began = time.perf_counter()
        losses = [_ours(tap[rows], labels, classes, fold, _PEER_FOLDS) for tap in asked]
        both.append(time.perf_counter() - began)
        if repeat == 0:
            continue
        began = time.perf_counter()
        peers = [_theirs(tap[rows], labels, classes, fold, goal) for tap, goal in zip(asked, losses, strict=True)]
        theirs.append(sum(seconds for seconds, _ in peers))
        apart.append(max(float(gap.max()) for _, gap in peers))
        print(f"scikit-learn: {theirs[-1]:.2f} s at the tolerances chosen, {time.perf_counter() - began:.0f} s in all", flush=True)
    # The first one compiled.
    ours, both, study = ours[1:], both[1:], study[1:]
    ratios = [peer / own for peer, own in zip(theirs, both, strict=True)]
    shares = [own / one for own, one in zip(ours, passes, strict=True)]
    row = {
        "images": limit,
        "image_size": size,
        "taps": len(features.taps),
        "n": repeats,
        "pass_seconds": passes,
        "ours_seconds": ours,
        "ours_where_sklearn_was_asked": both,
        "sklearn_seconds": theirs,
        "sklearn / ours": ratios,
        "ours / pass": shares,
        "study / pass": [own / one for own, one in zip(study, passes, strict=True)],
        "largest excess of sklearn's loss": max(apart),
    }
    print(f"sklearn / ours: {np.median(ratios):.1f} [{min(ratios):.1f}, {max(ratios):.1f}] (goal 20), n = {repeats}")
    print(f"probes / pass over the images: {np.median(shares):.2f} [{min(shares):.2f}, {max(shares):.2f}] (goal 0.1)")
    print(f"largest excess of scikit-learn's training loss over ours, as a share of the loss at zero: {max(apart):.1e}")
    if not quick:
        print(write_record("probes", [row]))


def _ours(features: np.ndarray, labels: np.ndarray, classes: int, fold: np.ndarray, outs: Iterable[int]) -> np.ndarray:
    """(len(outs), strengths) objective after fitting without each of the folds `outs`."""
    found = []
    for out in outs:
        x, y = features[fold != out], labels[fold != out]
        solution = fit(x, y, classes, _STRENGTHS)
        found.append(_objectives(x, y, solution.kernels, solution.biases))
    return np.array(found)


def _objectives(x: np.ndarray, y: np.ndarray, kernels: np.ndarray, biases: np.ndarray) -> list[float]:
    """Of each strength: mean cross-entropy and penalty, the kernel in standardised units."""
    deviation = x.std(axis=0, dtype=np.float64)
    return [
        _cross_entropy(x @ kernel.astype(np.float64) + bias, y) + 0.5 * strength * float(np.sum((kernel * deviation[:, None]) ** 2))
        for strength, kernel, bias in zip(_STRENGTHS, kernels, biases, strict=True)
    ]


def _cross_entropy(logits: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean(logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]))


def _theirs(features: np.ndarray, labels: np.ndarray, classes: int, fold: np.ndarray, goal: np.ndarray) -> tuple[float, np.ndarray]:
    """(seconds, (_PEER_FOLDS, strengths) excess of the objective over ours as a share of that at zero), at the loosest tolerance
    that reaches `goal`; a tolerance that did not is not counted."""
    seconds, excess = 0.0, np.zeros(goal.shape)
    for out in _PEER_FOLDS:
        x, y = features[fold != out].astype(np.float64), labels[fold != out]
        mean, deviation = x.mean(axis=0), x.std(axis=0)
        standard = (x - mean) / np.where(deviation > 0, deviation, 1.0)
        for tolerance in _TOLERANCES:
            began = time.perf_counter()
            model = LogisticRegression(tol=tolerance, max_iter=5000, warm_start=True)
            found = []
            # The strongest first: each solution is near the next.
            for strength in _STRENGTHS[::-1]:
                model.C = 1 / (strength * len(y))
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    model.fit(standard, y)
                found.append((np.array(model.coef_), np.array(model.intercept_)))
            taken = time.perf_counter() - began
            values = [
                _cross_entropy(standard @ kernel.T + bias, y) + 0.5 * strength * float(np.sum(kernel**2))
                for strength, (kernel, bias) in zip(_STRENGTHS, found[::-1], strict=True)
            ]
            excess[out] = (np.array(values) - goal[out]) / np.log(classes)
            if excess[out].max() <= 1e-6:
                break
        seconds += taken  # pyright: ignore[reportPossiblyUnboundVariable]
    return seconds, excess


if __name__ == "__main__":
    main()
