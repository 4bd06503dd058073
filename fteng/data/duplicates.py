"""Images that show the same photograph twice: the same pixels, or nearly (stored again, resized, brightened, its rim cut)."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

# An image is compared by what a grey thumbnail of so many pixels a side shows beyond its own local means. The means themselves
# must not count: two lesions are both a dark disc on skin and correlate at 0.99, and differ in their detail.
SMALLEST = 32
_LOCAL = 4
# Eight photographs against their copies (JPEG quality 30 and 60, half size, 15 % brighter, gamma 1.3, a rim of 2 pixels cut off):
# 0.991 or more. Highest of different images: 0.24 (1,500 photographs of one woven fabric), 0.981 (2,363 parts of photographs that
# do not overlap), 0.981 (10,000 simulated lesions, all discs of about one size: of 50 million pairs 249,374 reach 0.97, 6 reach
# 0.98, none 0.982), 0.984 (1,500 handwritten digits). In Fashion-MNIST's test set, at 64 px, 5 of 50 million pairs pass. Every pair
# that is found is named in the report.
_LEAST_CORRELATION = 0.987
_ROWS_AT_A_TIME = 2048


def pixel_digest(image: np.ndarray) -> str:
    """sha256 (hex) of (h, w, 3) uint8."""
    return hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()


def same_pixels(digests: Sequence[str]) -> list[list[int]]:
    """Rows with equal digests, for each digest that more than one row has."""
    return _clusters(range(len(digests)), lambda row: digests[row])


def near_copies(images: np.ndarray) -> list[list[int]]:
    """Clusters of rows of (n, s, s, 3) uint8, s at least SMALLEST, that show nearly the same, identical ones included.

    Compares every pair, as products of matrices: n^2 / 2 x 2,048 floating-point operations, 2 KiB of memory an image.
    """
    details = np.stack([_detail(image) for image in images])
    parent = np.arange(len(images))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for start in range(0, len(images), _ROWS_AT_A_TIME):
        some = details[start : start + _ROWS_AT_A_TIME].astype(np.float32)
        for other in range(start, len(images), _ROWS_AT_A_TIME):
            alike = some @ details[other : other + _ROWS_AT_A_TIME].astype(np.float32).T >= _LEAST_CORRELATION
            for i, j in zip(*np.nonzero(alike), strict=True):
                first, second = sorted((root(start + i), root(other + j)))
                parent[second] = first
    return _clusters(range(len(images)), root)


def _clusters(rows: Sequence[int], name: Callable[[int], object]) -> list[list[int]]:
    found: dict[object, list[int]] = defaultdict(list)
    for row in rows:
        found[name(row)].append(row)
    return [cluster for cluster in found.values() if len(cluster) > 1]


def _detail(image: np.ndarray) -> np.ndarray:
    """(1024,) float16 of length 1: 32 x 32 grey block means less the mean of 4 x 4 of them. Zero for an image without detail."""
    # Mode F keeps what 8 bits would round away of a faint lesion.
    grey = Image.fromarray(image).convert("L").convert("F").resize((SMALLEST, SMALLEST), Image.Resampling.BOX)
    coarse = SMALLEST // _LOCAL
    blocks = np.asarray(grey).reshape(coarse, _LOCAL, coarse, _LOCAL)
    detail = (blocks - blocks.mean((1, 3), keepdims=True)).ravel()
    length = np.linalg.norm(detail)
    # Less than one grey level a pixel is rounding, not something to know an image by.
    return (detail / length if length > SMALLEST else np.zeros_like(detail)).astype(np.float16)
