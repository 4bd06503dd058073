"""Images from their files in batches, decoded in threads a few batches ahead of who asks. Imports no jax."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from fteng.data.decode import decode, why_unreadable
from fteng.data.pixels import Settings
from fteng.predict.wanted import Wanted

# A thread decodes so many before it hands over, which costs about what writing an image does.
_IMAGES_A_TASK = 4
# Batches that are being decoded, or wait for the network.
_AHEAD = 3


class ReadBatch(NamedTuple):
    """images: (size, side, side, 3) uint8, black where there is no image; errors: of the first len(errors), which are the ones
    asked for, what is wrong with each, or empty."""

    images: np.ndarray
    errors: list[str]


def read_batches(wanted: Sequence[Wanted], settings: Settings, size: int, threads: int) -> Iterator[ReadBatch]:
    """Every image once, in order, in batches of one shape. Memory: a few batches, however many images there are."""
    parts = [wanted[start : start + size] for start in range(0, len(wanted), size)]
    running: deque[tuple[np.ndarray, list[Future[list[str]]]]] = deque()

    def begin(pool: ThreadPoolExecutor, part: Sequence[Wanted]) -> None:
        images = np.zeros((size, settings.size, settings.size, 3), np.uint8)
        ends = range(0, len(part), _IMAGES_A_TASK)
        running.append(
            (images, [pool.submit(_fill, images[at:], part[at : at + _IMAGES_A_TASK], settings) for at in ends]),
        )

    with ThreadPoolExecutor(threads) as pool:
        try:
            for part in parts[:_AHEAD]:
                begin(pool, part)
            for index in range(len(parts)):
                images, tasks = running.popleft()
                errors = [error for task in tasks for error in task.result()]
                if index + _AHEAD < len(parts):
                    begin(pool, parts[index + _AHEAD])
                yield ReadBatch(images, errors)
        finally:
            # Who stops early does not want the rest.
            pool.shutdown(wait=False, cancel_futures=True)


def _fill(images: np.ndarray, part: Sequence[Wanted], settings: Settings) -> list[str]:
    return [_read(image, one, settings) for image, one in zip(images, part, strict=False)]


def _read(image: np.ndarray, wanted: Wanted, settings: Settings) -> str:
    """Decode into `image`; what is wrong with the file, or nothing."""
    try:
        image[:] = decode(wanted.file, *settings)
    except Exception as error:  # Pillow raises many kinds on broken files; each stands in its row
        return why_unreadable(error)
    return ""
