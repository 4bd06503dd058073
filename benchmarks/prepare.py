"""Preparing images against the decoder alone: what reading, resizing, hashing and writing add, and whether memory grows with them.

    python -m benchmarks.prepare [--quick]

Makes JPEGs of 600 x 450 from real photographs (scikit-learn's, cut and turned), of the size on disk that such dermoscopic images
have (HAM10000: 277 kB on average), then times, in turn and several times over, in as many threads as `fteng.data.prepare` takes:

- the ceiling: simplejpeg, the fastest decoder here, decodes every file whole, as it comes off the disk, and keeps nothing;
- the same at the scale that 224 px needs (1/2), which is what preparing asks of it: the stricter ceiling;
- Pillow, whole, to compare with;
- `fteng.data.prepare` to 224 px from an empty cache until the array is safe on disk.

A row's ratio is the median over repeats of (seconds of the ceiling) / (seconds of the row). Peak memory is that of a process that
does nothing but prepare. Quick: 500 images in place of 10,000, no record.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.photographs import load_photographs, part
from benchmarks.record import write_record
from fteng.config import DataConfig
from fteng.data.pixels import Resampling
from fteng.data.prepare import prepare

_SIZE = (600, 450)
_REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="500 images in place of 10,000, no record")
    parser.add_argument("--peak-of", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak_of:
        _prepare(given.peak_of)
        print(_peak_bytes())
        return
    count = 500 if given.quick else 10_000
    with tempfile.TemporaryDirectory() as folder:
        images, few = Path(folder) / "images", Path(folder) / "few"
        _make(images, count)
        _make(few, count // 5)
        rows = _in_turn(images)
        peaks = [{"what": f"peak memory, {n} images", "bytes": _peak(where)} for n, where in ((count, images), (count // 5, few))]
    table = Table("what", "images/s", "x ceiling", "x ceiling at 1/2")
    for row in rows:
        table.add_row(row["what"], *(f"{row[key]:.2f}" for key in ("images_per_second", "of_ceiling", "of_scaled_ceiling")))
    Console().print(table)
    for row in peaks:
        Console().print(f"{row['what']}: {row['bytes'] / 2**20:.0f} MiB")
    if not given.quick:
        print(f"record: {write_record('prepare', [*rows, *peaks])}")


def _in_turn(images: Path) -> list[dict[str, Any]]:
    """A row each, repeats taken in turn so that other work on the machine falls on all of them alike."""
    files = sorted(images.rglob("*.jpg"))
    runs: dict[str, Callable[[], float]] = {
        "simplejpeg alone, whole": lambda: _decode_alone(files, lambda path: simplejpeg.decode_jpeg(path.read_bytes())),
        "simplejpeg alone, at 1/2": lambda: _decode_alone(files, _at_half),
        "Pillow alone, whole": lambda: _decode_alone(files, _by_pillow),
        "prepare to 224 px": lambda: _prepare(images),
    }
    seconds: dict[str, list[float]] = {what: [] for what in runs}
    for _ in range(_REPEATS):
        for what, run in runs.items():
            seconds[what].append(run())
    whole, scaled = (np.array(seconds[f"simplejpeg alone, {how}"]) for how in ("whole", "at 1/2"))
    bytes_per_file = sum(path.stat().st_size for path in files) // len(files)
    return [
        {
            "what": what,
            "images": len(files),
            "bytes_per_file": bytes_per_file,
            "n": _REPEATS,
            "seconds": taken,
            "images_per_second": len(files) / float(np.median(taken)),
            "of_ceiling": float(np.median(whole / taken)),
            "of_scaled_ceiling": float(np.median(scaled / taken)),
            "spread_of_ceiling": float(np.ptp(whole / taken)),
        }
        for what, taken in seconds.items()
    ]


def _make(folder: Path, count: int) -> None:
    photographs = load_photographs()
    for label in ("one", "two"):
        (folder / label).mkdir(parents=True)

    def one(index: int) -> None:
        rng = np.random.default_rng(index)
        image = part(photographs, index, _SIZE, rng)
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.ROTATE_180)
        # Photographs and classes are not to coincide, nor is either to lie together in the order of the files.
        image.save(folder / ("one", "two")[index // 2 % 2] / f"{index:05d}.jpg", quality=99, subsampling="4:4:4")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, range(count)))


def _at_half(path: Path) -> None:
    simplejpeg.decode_jpeg(path.read_bytes(), min_width=_SIZE[0] // 2, min_height=_SIZE[1] // 2)


def _by_pillow(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


def _decode_alone(files: list[Path], decode: Callable[[Path], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda path: decode(path) is None, files):
            pass
    return time.perf_counter() - started


def _prepare(images: Path) -> float:
    """Seconds, without those of throwing the array away again."""
    with tempfile.TemporaryDirectory() as cache:
        config = DataConfig()
        config.path, config.cache_dir = str(images), cache
        started = time.perf_counter()
        prepare(config, Resampling("bicubic"), lambda *_: None)
        return time.perf_counter() - started


def _peak(images: Path) -> int:
    """Of a process of its own."""
    command = [sys.executable, "-m", "benchmarks.prepare", f"--peak-of={images}"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def _peak_bytes() -> int:
    """Peak of what this process holds resident, pages of the mapped array included: getrusage would tell the parent's peak too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
