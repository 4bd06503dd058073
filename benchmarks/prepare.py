"""Preparing images against the decoder alone: what reading, resizing and writing add, and whether memory grows with the images.

    python -m benchmarks.prepare [--quick]

Makes JPEGs of 600 x 450 from real photographs (scikit-learn's and scikit-image's, cut and turned), then, in the same run: the
ceiling (Pillow decodes every file whole in as many threads, and keeps nothing), the scaled decode that preparing uses, and
`fteng.data.prepare` to 224 px. Quick: 500 images in place of 10,000.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_images

from benchmarks.record import write_record
from fteng.config import DataConfig
from fteng.data.prepare import prepare

_SIZE = (600, 450)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="500 images in place of 10,000")
    parser.add_argument("--peak-of", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak_of:
        _prepare(given.peak_of)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    count = 500 if given.quick else 10_000
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        _make(images, count)
        files = sorted(images.rglob("*.jpg"))
        rows = [
            {"what": "decode alone, whole", "seconds": _timed(lambda: _decode_alone(files, draft=False))},
            {"what": "decode alone, scaled", "seconds": _timed(lambda: _decode_alone(files, draft=True))},
            {"what": "prepare to 224 px", "seconds": _timed(lambda: _prepare(images))},
        ]
        ceiling = rows[0]["seconds"]
        for row in rows:
            row |= {"images": count, "images_per_second": count / row["seconds"], "of_ceiling": ceiling / row["seconds"], "n": 1}
        few = Path(folder) / "few"
        _make(few, count // 5)
        peaks = {"all images": _peak(images), "a fifth of them": _peak(few)}
    table = Table("what", "images/s", "x ceiling")
    for row in rows:
        table.add_row(row["what"], f"{row['images_per_second']:.0f}", f"{row['of_ceiling']:.2f}")
    Console().print(table)
    Console().print("peak memory: " + ", ".join(f"{name} {peak / 2**20:.2f} GiB" for name, peak in peaks.items()))
    name = "prepare-quick" if given.quick else "prepare"
    print(f"record: {write_record(name, [*rows, {'what': 'peak memory in KiB, page cache of the map included', **peaks}])}")


def _make(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    photographs = [np.asarray(image) for image in load_sample_images().images]
    for label in ("one", "two"):
        (folder / label).mkdir(parents=True)
    for index in range(count):
        photograph = photographs[index % len(photographs)]
        height, width = photograph.shape[:2]
        top, left = rng.integers(0, height // 3), rng.integers(0, width // 3)
        part = np.rot90(photograph[top : top + height * 2 // 3, left : left + width * 2 // 3], 2 * (index % 2))
        path = folder / ("one", "two")[index % 2] / f"{index:05d}.jpg"
        Image.fromarray(part).resize(_SIZE, Image.Resampling.BICUBIC).save(path, quality=90)


def _timed(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _decode_alone(files: list[Path], *, draft: bool) -> None:
    def one(path: Path) -> None:
        with Image.open(path) as image:
            if draft:
                image.draft("RGB", (448, 448))
            image.load()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, files))


def _prepare(images: Path) -> None:
    with tempfile.TemporaryDirectory() as cache:
        config = DataConfig()
        config.path, config.cache_dir = str(images), cache
        prepare(config, "bicubic", lambda *_: None)


def _peak(images: Path) -> int:
    """Of a process of its own."""
    command = [sys.executable, "-m", "benchmarks.prepare", f"--peak-of={images}"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


if __name__ == "__main__":
    main()
