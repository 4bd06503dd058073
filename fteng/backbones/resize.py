"""Matrices that resize a row of position embeddings by cubic convolution (Keys 1981), in the two ways that publishers do."""

import numpy as np


def antialiased_bicubic(old: int, new: int) -> np.ndarray:
    """(new, old) float32. As timm does: the cubic has a = -0.5 and widens where the row shrinks; what stands out counts nothing."""
    ratio = old / new
    widening = max(ratio, 1.0)
    centres = (np.arange(new) + 0.5) * ratio
    distances = (np.arange(old) + 0.5 - centres[:, None]) / widening
    weights = _cubic(distances, -0.5)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def offset_bicubic(old: int, new: int) -> np.ndarray:
    """(new, old) float32. As DINOv2 does: a = -0.75, the end value goes on beyond the row, and the step is old / (new + 0.1): the
    authors add 0.1 against rounding, and their published numbers have it."""
    places = (np.arange(new) + 0.5) * (old / (new + 0.1)) - 0.5
    matrix = np.zeros((new, old))
    for neighbour in range(-1, 3):
        sources = np.floor(places).astype(int) + neighbour
        np.add.at(matrix, (np.arange(new), np.clip(sources, 0, old - 1)), _cubic(places - sources, -0.75))
    return matrix.astype(np.float32)


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    x = np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
