"""How long a training loop waits for images that do not fit the device's budget and are streamed from disk.

    python -m benchmarks.feed [--quick]

Writes more 224 px images than fit, drops them from the page cache, and runs the cheapest training there is: EfficientNet-Lite0
with every stage frozen, so one forward pass a batch; whatever trains more, waits for a smaller share. Goal: less than 2 %. Quick:
20 steps in place of 120, no record.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

from benchmarks.record import write_record
from fteng.backbones.catalogue import load
from fteng.config import BackboneConfig
from fteng.feed import make_feed
from fteng.train.batches import Picked, TrainingRows

_SHAPE = (7500, 224, 224, 3)
_BATCH = 32
_REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 steps in place of 120, no record")
    given = parser.parse_args()
    steps = 20 if given.quick else 120
    backbone, weights = load(BackboneConfig("efficientnet_lite0", "package"))
    forward = jax.jit(lambda params, images: backbone.apply(params, weights.stats, backbone.preprocess.apply(images))[0].mean())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.bin"
        with file.open("wb") as out:
            for _ in range(_SHAPE[0] // 100):
                out.write(np.random.default_rng(0).integers(0, 256, (100, *_SHAPE[1:]), np.uint8).tobytes())
            out.flush()
            os.fsync(out.fileno())
        feed = make_feed(np.memmap(file, np.uint8, "r", shape=_SHAPE))
        if "streamed" not in feed.where:
            print(f"nothing to measure on this device: {feed.where}", file=sys.stderr)
            sys.exit(os.EX_UNAVAILABLE)
        rows = np.arange(_SHAPE[0])
        forward(weights.params, feed.take(rows[:_BATCH])).block_until_ready()
        shares, seconds, firsts = [], [], []
        for seed in range(_REPEATS):
            with file.open("rb") as kept:
                os.posix_fadvise(kept.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            plan = TrainingRows(rows, rows % 2, batch=_BATCH, epochs=1, seed=seed, balanced=False)
            coming = feed.batches(Picked(plan, lambda batch: batch.rows))
            waited, started = 0.0, time.perf_counter()
            for step in range(steps):
                before = time.perf_counter()
                images = next(coming)
                waited += time.perf_counter() - before
                if step == 0:
                    firsts.append(waited)
                forward(weights.params, images).block_until_ready()
            seconds.append(time.perf_counter() - started)
            shares.append(waited / seconds[-1])
    share = float(np.median(shares))
    later = float(np.median([(share * total - first) / total for share, total, first in zip(shares, seconds, firsts, strict=True)]))
    Console().print(
        f"{feed.where}\nwaited {share:.2%} of {np.median(seconds):.1f} s (n = {_REPEATS}); {later:.2%} without the first batch,"
        " for which nothing can be done ahead"
    )
    row = {"where": feed.where, "steps": steps, "batch": _BATCH, "n": _REPEATS, "seconds": seconds, "waited_share": shares}
    row |= {"waited_share_without_first_batch": later, "first_batch_seconds": firsts}
    if not given.quick:
        print(f"record: {write_record('feed', [row])}")


if __name__ == "__main__":
    main()
