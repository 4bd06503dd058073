"""How often are the statistics wrong where the truth is known? Simulated under the null; nothing is trained.

    python -m benchmarks.alarms [--quick]

False alarms, that may be at most 5 %: a noticeable difference to the source at any of three stages, of normal, rectified and skewed
features whose images come in groups of four, kept in 6, 16 or 32 parts; training and test images told apart at any of two stages;
one of five freeze depths that all lie just beyond the margin taken for not worse; one of six equal freeze depths called worse. Then
how often the 95 % interval of a known AUC holds it, of patients with one to five images each. The range is the 95 % error of the
simulation itself (Wilson 1927); goals allow for it, as a test of exactly 5 % would miss one of 5 % every second time: it stays
within them in 99 of 100 simulations. Quick: few draws, no record.
"""

import argparse
import sys
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.record import write_record
from benchmarks.simulated import SHAPES, draw, images, known, source, study_of
from fteng.analysis.bootstrap import group_weights, interval
from fteng.analysis.recommend import recommend
from fteng.similarity.zero import noticeable, two_samples

_LEVEL = 0.05


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few draws, no record")
    quick = parser.parse_args().quick
    draws, studies = (20, 10) if quick else (1000, 1000)
    rows = []
    for shape in SHAPES:
        for parts in (6, 16, 32):
            rows.append(_row(f"a noticeable difference, {shape} features, {parts} parts", noticed(draws, shape, parts), draws))
    rows.append(_row("training and test images told apart", told_apart(draws), draws))
    for patients, auc in ((150, 0.97), (300, 0.92), (300, 0.75)):
        passed, alarms = wrong_verdicts(studies, patients, auc, seed=1000)
        rows.append(_row(f"a depth beyond the margin taken for not worse, AUC {auc}, {patients} patients", passed, studies))
        rows.append(_row(f"one of six equal depths called worse, AUC {auc}, {patients} patients", alarms, studies))
    for patients, auc in ((120, 0.8), (120, 0.88), (120, 0.95), (250, 0.9)):
        what = f"the interval of an AUC of {auc} holds it, {patients} patients"
        rows.append(_row(what, coverage(draws, patients, auc, 1000, seed=1), draws, covers=True))
    for row in rows:
        print(f"{row['what']}: {row['rate']['value']:.3f} [{row['rate']['low']:.3f}, {row['rate']['high']:.3f}]")
    if not quick:
        print(f"record: {write_record('alarms', rows)}")
    return 0


def _row(what: str, rate: float, draws: int, *, covers: bool = False) -> dict[str, Any]:
    """covers: the rate should be at least 95 % and not at most 5."""
    ends = stats.binomtest(round(rate * draws), draws).proportion_ci(0.95, "wilson")
    most = within(draws)
    goal = f">= {1 - most:.3f}" if covers else f"<= {most:.3f}"
    return {"what": what, "rate": {"value": rate, "low": float(ends.low), "high": float(ends.high)}, "n": draws, "goal": goal}


def within(draws: int) -> float:
    """What a test of exactly 5 % stays below in 99 of 100 simulations."""
    return _LEVEL + 2.33 * float(np.sqrt(_LEVEL * (1 - _LEVEL) / draws))


def noticed(draws: int, shape: str, parts: int) -> float:
    """How often a difference to the source is noticed at any of three stages, where there is none."""
    truth, alarms = source(shape), 0
    for seed in range(draws):
        taps = images(seed, 16 * parts, shape=shape)
        found = noticeable([known(tap, mean, var, parts) for tap, (mean, var) in zip(taps, truth, strict=True)])
        alarms += min(found) <= _LEVEL
    return alarms / draws


def told_apart(draws: int) -> float:
    """How often two sides of one distribution, of 5 and 7 groups, are told apart at any of two stages."""
    groups, alarms = np.arange(48) // 4, 0
    for seed in range(draws):
        side = np.isin(groups, np.random.default_rng(seed).permutation(12)[:5])
        alarms += min(row["p"] for row in two_samples(images(seed, 48, stages=2), side, groups)) <= _LEVEL
    return alarms / draws


def wrong_verdicts(draws: int, patients: int, auc: float, seed: int) -> tuple[float, float]:
    """How often one of five depths just beyond the margin is `not worse`, and how often one of six equal ones is `worse`; auc: of
    the best."""
    passed = alarms = 0
    for number in range(draws):
        beyond, weights = study_of([auc] + [auc - 0.04] * 5, patients, seed=seed + number, common=0.8)
        found = recommend(beyond, "auc", 0.039, 0.95, weights)
        # The truly best one may pass beside a lucky winner; any other is wrong.
        passed += any(row.verdict == "not worse" for row in found.comparisons[1:])
        equal, weights = study_of([auc] * 6, patients, seed=seed + number)
        found = recommend(equal, "auc", 0.01, 0.95, weights)
        alarms += any(row.verdict == "worse" for row in found.comparisons)
    return passed / draws, alarms / draws


def coverage(draws: int, patients: int, auc: float, resamples: int, seed: int) -> float:
    """How often the 95 % interval holds the true AUC."""
    rng, covered = np.random.default_rng(seed), 0
    for number in range(draws):
        (depth,) = draw(rng, patients, [auc])
        found = interval(depth, "auc", group_weights(depth[0].groups, resamples, seed=number), 0.95)
        if found.low is None or found.high is None:
            raise RuntimeError(f"no interval in draw {number}")
        covered += found.low <= auc <= found.high
    return covered / draws


if __name__ == "__main__":
    sys.exit(main())
