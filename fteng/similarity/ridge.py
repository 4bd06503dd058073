"""Cross-validated linear classifiers from kernels alone: of one stage, or of all stages that a plan would train."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped

from fteng.similarity.rows import standardised
from fteng.undefined import UndefinedError

Gram = Float[np.ndarray, "n n"]
# Of the kernel's mean diagonal, which is 1 where something varies.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)


def gram(features: Shaped[np.ndarray, "n c"]) -> Gram:
    """Linear kernel of standardised channels, mean diagonal 1; all 0 where every channel is constant."""
    standard = standardised(features)
    product = standard @ standard.T
    scale = float(np.trace(product)) / len(product)
    return product / scale if scale > 0 else product


def out_of_fold(kernel: Gram, labels: Int[np.ndarray, "n"], folds: Sequence[Int[np.ndarray, "_"]]) -> Float[np.ndarray, "n k"]:
    """What ridge regression on the classes' indicators answers to each image when its fold was left out; one column a class.

    The strength with the least squared error out of fold is taken. In closed form: with G = (K + s I)^-1 the error of a fold
    that was left out is G_FF^-1 (G y)_F (Pahikkala et al. 2006), exactly what fitting without it gives. The intercept is a
    constant added to the kernel.
    """
    classes = int(labels.max()) + 1
    targets = np.eye(classes)[labels]
    n = len(labels)
    if not kernel.any():
        raise UndefinedError("every channel of this stage is constant")
    best, answers = np.inf, targets
    for strength in STRENGTHS:
        inverse = np.linalg.inv(kernel + 1.0 + n * strength * np.eye(n))
        weighted = inverse @ targets
        errors = np.empty_like(targets)
        for rows in folds:
            errors[rows] = np.linalg.solve(inverse[np.ix_(rows, rows)], weighted[rows])
        loss = float((errors**2).mean())
        if loss < best:
            best, answers = loss, targets - errors
    return answers
