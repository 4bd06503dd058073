"""What a distance is when there is nothing to see, from parts of the data themselves, and whether there is something to see."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from fteng.similarity.distances import kernel, mmd2
from fteng.similarity.layers import Known
from fteng.similarity.rows import standardised
from fteng.undefined import UndefinedError

# With 6 parts there are 32 patterns of signs up to their mirror image: the least p is then below 0.05.
FEWEST_PARTS = 6
DISTANCES = ("mean_shift", "log_variance_ratio", "diagonal_frechet")
_FLIPS = 999
_HALVINGS = 400
_PERMUTATIONS = 999
# Flips at a time, so that flips x channels stay in some MB.
_CHUNK = 100


class Zero(NamedTuple):
    """The distance of the data to themselves: mean, and the 95 % that lie between low and high."""

    mean: float
    low: float
    high: float


def zeros(known: Known) -> dict[str, Zero]:
    """For each of DISTANCES, what it would be if the source were the population that the data come from.

    The parts are dealt into two halves in 400 ways. The mean of one half less that of the other scatters twice as widely as the
    mean of all does around the truth; so half of it (a quarter of a squared distance) is the distance that chance alone makes
    with that many images. A shift between source and data cancels in it. Raises UndefinedError with fewer than 6 parts.
    """
    _enough(known)
    pseudo = _pseudo_values(known)
    parts = len(pseudo["mean_shift"])
    even = parts - parts % 2
    rng = np.random.default_rng(0)
    signs = np.zeros((_HALVINGS, parts))
    for row in signs:
        row[rng.permutation(parts)[:even]] = np.tile([1.0, -1.0], even // 2)
    found = {}
    for name in DISTANCES:
        # Balanced signs less one degree of freedom: the variance of a mean over parts, without bias.
        draws = _distance(name, signs @ pseudo[name] / even)
        found[name] = band(draws)
    return found


def noticeable(stages: Sequence[Known]) -> list[float]:
    """p of `no difference from the source means`, one a stage, corrected over the stages.

    A sign-flip test of the mean shift: without a difference the deviation of a part from the source is as likely as its
    opposite, so all flips of the parts' signs are alike (exact for symmetric deviations; a part is a mean over many images). The
    correction is by the largest standardised distance of each flip over the stages (Westfall and Young 1993), which allows for
    their dependence: under the null the chance of one false alarm anywhere is at most the level (measured by
    `python -m benchmarks.alarms`). Variances are not tested: of skewed features their spread is underestimated just when they are.
    The source means are taken as exact. Raises UndefinedError with fewer than 6 parts.
    """
    for known in stages:
        _enough(known)
    parts = min(len(known.part_means) for known in stages)
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], size=(_FLIPS + 1, parts))
    signs[0] = 1
    drawn = []
    for known in stages:
        deviations = (known.part_means[:parts] - known.source_mean) / np.sqrt(known.source_var) / parts
        chunks = [signs[start : start + _CHUNK] @ deviations for start in range(0, len(signs), _CHUNK)]
        drawn.append(np.concatenate([_distance("mean_shift", chunk) for chunk in chunks]))
    return _largest_first(np.stack(drawn))


def two_samples(
    taps: Sequence[Shaped[np.ndarray, "n _"]], first: Bool[np.ndarray, "n"], groups: Shaped[np.ndarray, "n"]
) -> list[dict[str, float]]:
    """Unbiased MMD^2 of the images `first` to the others at each tap, what chance makes of it, and p corrected over taps.

    Groups change sides whole, 999 times, the same at every tap: exact under `both sides come from one distribution`. `low` and
    `high` hold 95 % of the permuted distances, `mean` is theirs. Raises UndefinedError with fewer than two groups on a side.
    """
    sides = exchanges(first, groups, _PERMUTATIONS)
    drawn = np.stack([mmd2(kernel(standardised(tap)), sides) for tap in taps])
    corrected = _largest_first(drawn)
    return [{"value": float(row[0]), "p": p} | band(row[1:])._asdict() for row, p in zip(drawn, corrected, strict=True)]


def exchanges(first: Bool[np.ndarray, "n"], groups: Shaped[np.ndarray, "n"], times: int) -> Bool[np.ndarray, "r n"]:
    """The side of each image as it is, in the first row, and after groups changed sides at random, seeded."""
    names, member = np.unique(groups, return_inverse=True)
    side = np.zeros(len(names), bool)
    side[member[first]] = True
    if min(side.sum(), (~side).sum()) < 2:
        raise UndefinedError("needs two groups on each side")
    rng = np.random.default_rng(0)
    return np.stack([first, *(rng.permutation(side)[member] for _ in range(times))])


def band(draws: Float[np.ndarray, "r"]) -> Zero:
    """Mean and middle 95 % of what chance makes."""
    return Zero(float(draws.mean()), *(float(bound) for bound in np.quantile(draws, [0.025, 0.975])))


def _largest_first(drawn: Float[np.ndarray, "k r"]) -> list[float]:
    """p of the first column of each row among the largest of all rows, column by column; rows are standardised before."""
    spread = drawn.std(axis=1, keepdims=True)
    standard = (drawn - drawn.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    largest = standard[:, 1:].max(axis=0)
    # Rounding must not make a pattern of signs and its mirror image differ.
    return [float((1 + (largest >= own - 1e-9).sum()) / (1 + len(largest))) for own in standard[:, 0]]


def _enough(known: Known) -> None:
    if len(known.part_means) < FEWEST_PARTS:
        raise UndefinedError(f"needs {FEWEST_PARTS} parts of the data, each of several images; there are {len(known.part_means)}")


def _pseudo_values(known: Known) -> dict[str, Float[np.ndarray, "p _"]]:
    """What each part says of the deviation from the source, a channel; their mean is the deviation of all."""
    means, variances = known.part_means, known.part_vars
    parts, std = len(means), np.sqrt(known.source_var)
    squares = variances + means**2
    others = [(values.sum(axis=0) - values) / (parts - 1) for values in (means, squares)]
    tiny = np.finfo(np.float64).tiny
    whole = np.maximum(squares.mean(axis=0) - means.mean(axis=0) ** 2, tiny)
    left = np.maximum(others[1] - others[0] ** 2, tiny)

    def jackknifed(of: Float[np.ndarray, "c"], without: Float[np.ndarray, "p c"]) -> Float[np.ndarray, "p c"]:
        return parts * of - (parts - 1) * without

    shift = (means - known.source_mean) / std
    spread = jackknifed(np.sqrt(whole) / std, np.sqrt(left) / std) - 1
    return {
        "mean_shift": shift,
        "log_variance_ratio": jackknifed(np.log(whole / known.source_var), np.log(left / known.source_var)),
        "diagonal_frechet": np.concatenate([shift, spread], axis=1),
    }


def _distance(name: str, deviations: Float[np.ndarray, "r _"]) -> Float[np.ndarray, "r"]:
    if name != "diagonal_frechet":
        return np.abs(deviations).mean(axis=1)
    # Shifts and spreads stand side by side: the mean over channels of the sum of both squares.
    return 2 * (deviations**2).mean(axis=1)
