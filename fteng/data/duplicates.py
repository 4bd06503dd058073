"""Images that show the same photograph twice: the same pixels, or nearly (stored again, resized, brightened)."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

# dHash (Krawetz 2013): is a cell of an 8 x 9 grid brighter than its right neighbour? 64 answers, stable under what cameras and
# archives do to a photograph.
_GRID = (8, 9)
# Eight photographs stored at other JPEG qualities, sizes, exposures, or without an edge of 4 pixels: 0 to 7 answers differ. Up to 7
# none is missed, because of 8 bytes one must be equal.
_MOST_BITS = 7
# The answers only propose, thumbnails decide: colour and contrast normalised, those copies correlate at 0.98 to 1, while 2,000
# photographs of one woven fabric give not one false pair.
SMALLEST = 32
_LEAST_CORRELATION = 0.98
_PAIRS_AT_A_TIME = 1 << 20


def pixel_digest(image: np.ndarray) -> str:
    """sha256 (hex) of (h, w, 3) uint8."""
    return hashlib.sha256(image.tobytes()).hexdigest()


def same_pixels(digests: Sequence[str]) -> list[list[int]]:
    """Rows with equal digests, for each digest that more than one row has."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        rows[digest].append(row)
    return [found for found in rows.values() if len(found) > 1]


def near_pairs(images: np.ndarray, progress: Callable[[int, int], None]) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of rows of (n, s, s, 3) uint8 that show nearly the same, identical ones too; s at least SMALLEST."""
    hashes = np.empty(len(images), np.uint64)
    for row, image in enumerate(images):
        hashes[row] = _dhash(image)
        progress(row + 1, len(images))
    found: set[tuple[int, int]] = set()
    for first, second in _candidates(hashes):
        pairs = {(int(i), int(j)) for i, j in zip(first, second, strict=True)} - found
        found |= {pair for pair in sorted(pairs) if _alike(images[pair[0]], images[pair[1]])}
    return sorted(found)


def _dhash(image: np.ndarray) -> np.uint64:
    cells = _shrink(image.mean(-1, dtype=np.float32), *_GRID)
    return np.packbits(cells[:, 1:] > cells[:, :-1]).view(np.uint64)[0]


def _shrink(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """(h, w, ...) -> (rows, columns, ...): means of blocks that differ in size by at most one pixel."""
    for axis, cells in ((0, rows), (1, columns)):
        starts = np.arange(cells) * image.shape[axis] // cells
        sizes = np.diff(np.append(starts, image.shape[axis]))
        shape = [1] * image.ndim
        shape[axis] = cells
        image = np.add.reduceat(image, starts, axis) / sizes.reshape(shape)
    return image


def _candidates(hashes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of rows whose hashes differ by few bits, each pair from one band or more."""
    bytes_ = hashes.view(np.uint8).reshape(len(hashes), 8)
    for band in range(8):
        order = np.argsort(bytes_[:, band], kind="stable")
        edges = np.flatnonzero(np.diff(bytes_[order, band])) + 1
        for bucket in np.split(order, edges):
            step = max(1, _PAIRS_AT_A_TIME // len(bucket))
            for start in range(0, len(bucket), step):
                some = bucket[start : start + step]
                near = np.bitwise_count(hashes[some][:, None] ^ hashes[bucket][None]) <= _MOST_BITS
                left, right = np.nonzero(near)
                keep = some[left] < bucket[right]
                yield some[left][keep], bucket[right][keep]


def _alike(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether the thumbnails correlate. An image of one colour is like none but its own copy."""
    if np.array_equal(first, second):
        return True
    one, two = (_shrink(image.astype(np.float32), SMALLEST, SMALLEST).reshape(-1, 3) for image in (first, second))
    one, two = one - one.mean(0), two - two.mean(0)
    scale = float(np.sqrt((one**2).sum() * (two**2).sum()))
    return scale > 0 and float((one * two).sum()) / scale >= _LEAST_CORRELATION
