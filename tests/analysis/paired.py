"""Two depths alone, as the page compares them in pairs."""

from collections.abc import Sequence

import numpy as np

from fteng.analysis.bootstrap import informative_groups
from fteng.analysis.compare import Difference, check_paired, difference_of, scores, training_luck
from fteng.results import Predictions


def paired(
    first: Sequence[Predictions], second: Sequence[Predictions], metric: str, weights: np.ndarray, confidence: float
) -> Difference:
    """Each a list of seeds."""
    check_paired([first, second])
    one, other = scores(first, metric, weights), scores(second, metric, weights)
    return difference_of(one, other, training_luck([one, other]), informative_groups(first[0], metric), confidence)
