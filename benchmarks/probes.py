"""The linear classifiers of every tap against scikit-learn's on the same features, and against the pass over the images.

    python -m benchmarks.probes [--quick]

Features of every tap of EfficientNet-Lite0 on 1,000 real digits at 128 px, ten L2 strengths (a study has fifteen), all training
images and five folds of them. fteng.probe.logistic.fit does it in one call a tap; the peer is scikit-learn's LogisticRegression
(lbfgs, its default, not its Newton) on the same standardised features, one fit after the other, each strength begun at the last
one's solution, at the loosest of four tolerances whose training loss on all images is as low as ours to a millionth of the loss at
zero at every strength (or its tightest), the folds at the same. It is asked on every third tap, since it takes minutes. Goals: 20
times scikit-learn; all taps in 0.1 of the pass over the images. Quick: 300 images of 64 px, one repeat, no record.
"""

import argparse
import time
import warnings
from collections.abc import Sequence

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
# What the peer is asked; the last, the widest, is one of them.
_PEER_TAPS = slice(2, None, 3)


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
    ours, both, theirs, apart = [], [], [], []
    for repeat in range(repeats + 1):
        began = time.perf_counter()
        for tap in features.taps:
            fit(tap[rows], labels, classes, _STRENGTHS, folds)
        ours.append(time.perf_counter() - began)
        print(f"ours: {ours[-1]:.2f} s for {len(features.taps)} taps", flush=True)
        began = time.perf_counter()
        solutions = [fit(tap[rows], labels, classes, _STRENGTHS, folds) for tap in asked]
        both.append(time.perf_counter() - began)
        if repeat == 0:
            continue
        began = time.perf_counter()
        peers = [
            _theirs(tap[rows], labels, folds, _objectives(tap[rows], labels, one.kernels, one.biases))
            for tap, one in zip(asked, solutions, strict=True)
        ]
        theirs.append(sum(seconds for seconds, _ in peers))
        apart.append(max(gap for _, gap in peers))
        print(f"scikit-learn: {theirs[-1]:.2f} s at the tolerances chosen, {time.perf_counter() - began:.0f} s in all", flush=True)
    # The first one compiled.
    ours, both = ours[1:], both[1:]
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
        "largest excess of sklearn's loss": max(apart),
    }
    print(f"sklearn / ours: {np.median(ratios):.1f} [{min(ratios):.1f}, {max(ratios):.1f}] (goal 20), n = {repeats}")
    print(f"probes / pass over the images: {np.median(shares):.2f} [{min(shares):.2f}, {max(shares):.2f}] (goal 0.1)")
    print(f"largest excess of scikit-learn's training loss over ours, as a share of the loss at zero: {max(apart):.1e}")
    if not quick:
        print(write_record("probes", [row]))


def _objectives(x: np.ndarray, y: np.ndarray, kernels: np.ndarray, biases: np.ndarray) -> list[float]:
    """Of each strength: mean cross-entropy and penalty, the kernel in standardised units."""
    deviation = x.std(axis=0, dtype=np.float64)
    return [
        _cross_entropy(x @ kernel.astype(np.float64) + bias, y) + 0.5 * strength * float(np.sum((kernel * deviation[:, None]) ** 2))
        for strength, kernel, bias in zip(_STRENGTHS, kernels, biases, strict=True)
    ]


def _cross_entropy(logits: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean(logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]))


def _theirs(features: np.ndarray, labels: np.ndarray, folds: Sequence[np.ndarray], goal: list[float]) -> tuple[float, float]:
    """(seconds, largest excess of the objective over `goal` as a share of that at zero), at the loosest tolerance that reaches it
    on all images; a tolerance that did not is not counted."""
    x = features.astype(np.float64)
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    standard = (x - mean) / np.where(deviation > 0, deviation, 1.0)
    taken, excess, tolerance = 0.0, np.inf, _TOLERANCES[0]
    for tolerance in _TOLERANCES:
        began = time.perf_counter()
        found = _path(standard, labels, tolerance)
        taken = time.perf_counter() - began
        values = [
            _cross_entropy(standard @ kernel.T + bias, labels) + 0.5 * strength * float(np.sum(kernel**2))
            for strength, (kernel, bias) in zip(_STRENGTHS, found, strict=True)
        ]
        excess = float((np.array(values) - goal).max() / np.log(len(np.unique(labels))))
        if excess <= 1e-6:
            break
    began = time.perf_counter()
    for fold in folds:
        seen = np.setdiff1d(np.arange(len(labels)), fold)
        _path(standard[seen], labels[seen], tolerance)
    return taken + time.perf_counter() - began, excess


def _path(standard: np.ndarray, labels: np.ndarray, tolerance: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """(kernel, bias) of each strength."""
    model = LogisticRegression(tol=tolerance, max_iter=5000, warm_start=True)
    found = []
    # The strongest first: each solution is near the next.
    for strength in _STRENGTHS[::-1]:
        model.C = 1 / (strength * len(labels))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(standard, labels)
        found.append((np.array(model.coef_), np.array(model.intercept_)))
    return found[::-1]


if __name__ == "__main__":
    main()
