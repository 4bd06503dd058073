"""Predictions from image files against the bare forward pass: what reading, decoding and writing leave of its pace.

    python -m benchmarks.predict [--quick] [--images=N] [--backbone=NAME]

Makes 2,000 JPEGs of 600 x 450 (quality 90, 4:2:0) from scikit-learn's photographs, then times, in turn and several times over:

- the bare pass: the compiled network over images that lie decoded in memory, batch after batch, answers thrown away;
- decoding alone: the same files through the same readers, with nobody waiting for them;
- `fteng.predict`: from the files to the last row on disk, with the distances that warn of unlike images.

Start-up (reading weights, compiling, making the reference) is outside all three. A row's ratio is the median over repeats of
(seconds of the bare pass) / (seconds of the row); goal: 0.9. Where network and decoders share the cores there is a ceiling below 1,
printed too: bare / (bare + decoding). Quick: 200 images, no record; there is none of fewer than 2,000.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.photographs import load_photographs, part
from benchmarks.record import write_record
from fteng.backbones.catalogue import load
from fteng.config import BackboneConfig, Config
from fteng.data.pixels import Settings
from fteng.freeze.partition import Parameters
from fteng.freeze.plan import stage_set_plan
from fteng.model import Model
from fteng.predict.output import OutputColumns, open_output
from fteng.predict.reading import read_batches
from fteng.predict.reference import Reference
from fteng.predict.run import answer_all, batch_size, readers
from fteng.predict.see import make_see
from fteng.predict.unlike import fit_limits
from fteng.predict.views import VIEWS
from fteng.predict.wanted import Columns, Wanted, find_images
from fteng.progress import PlainReporter

_SIZE = (600, 450)
_SIDE = 224
_REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 images in place of 2,000, no record")
    parser.add_argument("--images", type=int, default=0, help="so many images (default: 2,000)")
    parser.add_argument("--backbone", default="efficientnet_lite0", help="network, with the weights of its package, else random")
    given = parser.parse_args()
    count = given.images or (200 if given.quick else 2_000)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "images"
        _make(files, count)
        row = _in_turn(given.backbone, files, Path(folder))
    table = Table("what", "images/s", "x bare pass")
    for what in ("bare", "decoding", "predict"):
        table.add_row(what, f"{row[f'{what}_images_per_second']:.1f}", f"{row[f'{what}_of_bare']:.3f}")
    Console().print(table)
    Console().print(f"{given.backbone}, {count} images of {row['bytes_per_file'] >> 10} KiB; ceiling {row['ceiling']:.3f}")
    if not given.quick and count >= 2_000:
        print(f"record: {write_record('predict', [row])}")


def _in_turn(name: str, folder: Path, scratch: Path) -> dict[str, Any]:
    """Repeats taken in turn, so that other work on the machine falls on all alike."""
    model, size = _model(name), batch_size()
    see, settings = make_see(model, VIEWS["none"]), Settings(_SIDE, "squash", model.backbone.preprocess.interpolation, 1.0)
    wanted = find_images([folder], Columns("path", "group", False)).images
    decoded = [batch.images for batch in read_batches(wanted[: 8 * size], settings, size, readers())]
    features = np.concatenate([np.asarray(see(images).features) for images in decoded])
    half = len(features) // 2
    reference = Reference(fit_limits(features[:half], np.arange(half) % 2, features[half:]), 1.0, "")

    def bare() -> None:
        seen = [see(decoded[index % len(decoded)]) for index in range(-(-len(wanted) // size))]
        jax.block_until_ready(seen)

    def decoding() -> None:
        for _ in read_batches(wanted, settings, size, readers()):
            pass

    def predict() -> None:
        out = scratch / "predictions.csv"
        out.unlink(missing_ok=True)
        with open(os.devnull, "w") as nowhere, open_output(out, OutputColumns(model.classes, False), wanted, {}, size) as output:  # noqa: PTH123
            reporter = PlainReporter(nowhere)
            reporter.phase("predict", len(wanted))
            answer_all(wanted, output, see, reference, settings, size, reporter)

    runs = {"bare": bare, "decoding": decoding, "predict": predict}
    seconds: dict[str, list[float]] = {what: [] for what in runs}
    for _ in range(_REPEATS):
        for what, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[what].append(time.perf_counter() - started)
    return _row(name, wanted, seconds)


def _row(name: str, wanted: Sequence[Wanted], seconds: dict[str, list[float]]) -> dict[str, Any]:
    taken = {what: np.array(values) for what, values in seconds.items()}
    row: dict[str, Any] = {"backbone": name, "device": jax.devices()[0].device_kind, "images": len(wanted), "n": _REPEATS}
    row["bytes_per_file"] = sum(one.file.stat().st_size for one in wanted) // len(wanted)
    for what, values in taken.items():
        row |= {
            f"{what}_seconds": seconds[what],
            f"{what}_images_per_second": len(wanted) / float(np.median(values)),
            f"{what}_of_bare": float(np.median(taken["bare"] / values)),
            f"{what}_spread_of_bare": float(np.ptp(taken["bare"] / values)),
        }
    return row | {"ceiling": float(np.median(taken["bare"] / (taken["bare"] + taken["decoding"])))}


def _model(name: str) -> Model:
    """The network with a head of two classes that knows nothing, which is as fast as one that does."""
    config = Config()
    package = name.startswith("efficientnet_lite0")
    config.backbone = BackboneConfig(
        name, "package" if package else "random", last_stage="block5" if name.startswith("vgg") else ""
    )
    backbone, weights = load(config.backbone)
    head = {"kernel": jnp.zeros((backbone.channels[-1], 2)), "bias": jnp.zeros(2)}
    plan = stage_set_plan(backbone.stages, ())
    return Model(config, backbone, plan, Parameters(weights.params, head), weights.stats, weights, ("one", "two"), "benchmark")


def _make(folder: Path, count: int) -> None:
    photographs = load_photographs()
    folder.mkdir()

    def one(index: int) -> None:
        rng = np.random.default_rng(index)
        image = part(photographs, index, _SIZE, rng)
        image.save(folder / f"{index:05d}.jpg", quality=90)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, range(count)))


if __name__ == "__main__":
    main()
