"""The proof that a model folder answers as the study's model does: every part read back and asked about the study's own images."""

import io
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import export
from jaxtyping import Float, UInt8
from PIL import Image
from scipy.special import softmax

from fteng.backbones.catalogue import load
from fteng.config import BackboneConfig
from fteng.data.prepare import Dataset, read_records
from fteng.data.records import Packed, Record
from fteng.errors import UserError
from fteng.export.program import PRECISION
from fteng.export.weights import as_studied
from fteng.freeze.partition import Parameters
from fteng.model import Model
from fteng.predict.see import make_see
from fteng.predict.views import VIEWS

# Of probabilities.
TOLERANCE = 1e-5
# Test images that every part is asked about.
_IMAGES = 32
# The program takes any number at once: it is asked in such portions.
_PORTIONS = (1, 3, _IMAGES)


class Agreement(NamedTuple):
    """One part against the study's model. difference: the largest of any probability, over `images` images."""

    part: str
    images: int
    difference: float


def check_parts(model: Model, temperature: float, dataset: Dataset, folder: Path) -> list[Agreement]:
    """Weights, program and, where there is one, model.onnx. Raises UserError where one differs by more than `TOLERANCE`."""
    images = np.asarray(dataset.images[_chosen(dataset)])
    own = _answers(model, temperature, images)
    found = {
        "weights.safetensors": _answers(_read_back(model, folder / "weights.safetensors"), temperature, images),
        "program.stablehlo": _in_portions(_program(folder), images),
    }
    if (folder / "model.onnx").exists():
        from fteng.export.onnx import run_onnx

        found["model.onnx"] = run_onnx(folder / "model.onnx", images)
    checks = [Agreement(part, len(images), float(np.abs(answers - own).max())) for part, answers in found.items()]
    for check in checks:
        # Not `>`: a difference that is no number must not pass.
        if not check.difference <= TOLERANCE:
            raise UserError(
                f"{check.part}, read back, differs from the study's model by {check.difference:.1e} in a probability, allowed:"
                f" {TOLERANCE:.0e}; nothing was exported: run the command again, and report it if it stays so"
            )
    return checks


def compare_pixels(model: Model, temperature: float, dataset: Dataset, folder: Path) -> Agreement:
    """`run.py`, which resizes with Pillow, against the study's own way from the same files: no failure, but to be told.

    Raises UserError where it cannot read an image that the study could.
    """
    rows = _chosen(dataset)
    square = runpy.run_path(str(folder / "run.py"))["square"]
    record_of = {record.id: record for record in read_records(model.config.data).records}
    pixels = np.stack([_seen(square, record_of[name]) for name in dataset.ids[rows].tolist()])
    own = _answers(model, temperature, np.asarray(dataset.images[rows]))
    return Agreement("run.py", len(rows), float(np.abs(_answers(model, temperature, pixels) - own).max()))


def _chosen(dataset: Dataset) -> np.ndarray:
    """Rows of test images, spread over the whole split."""
    rows = dataset.splits["test"]
    return rows[np.unique(np.linspace(0, len(rows) - 1, _IMAGES).astype(int))]


def _answers(model: Model, temperature: float, images: UInt8[np.ndarray, "n side side 3"]) -> Float[np.ndarray, "n classes"]:
    """What `fteng.predict` says."""
    with jax.default_matmul_precision(PRECISION):
        return softmax(np.asarray(make_see(model, VIEWS["none"])(images).logits, np.float64) / temperature, axis=1)


def _read_back(model: Model, file: Path) -> Model:
    """The model as another study would find it in the weights file."""
    backbone, weights = load(BackboneConfig(model.config.backbone.name, str(file), last_stage=model.plan.tap))
    if weights.source_head is None or backbone.preprocess != as_studied(model):
        raise UserError(f"{file.name}, read back, does not say how it was trained; nothing was exported: report this")
    return model._replace(backbone=backbone, parameters=Parameters(weights.params, dict(weights.source_head)), stats=weights.stats)


def _program(folder: Path) -> Callable[[Any], Any]:
    return export.deserialize(bytearray((folder / "program.stablehlo").read_bytes())).call


def _in_portions(call: Callable[[Any], Any], images: UInt8[np.ndarray, "n side side 3"]) -> Float[np.ndarray, "n classes"]:
    parts, start = [], 0
    for portion in _PORTIONS:
        if start < len(images):
            parts.append(np.asarray(call(images[start : start + portion])))
            start += portion
    return np.concatenate(parts)


def _seen(square: Callable[[Any], np.ndarray], record: Record) -> UInt8[np.ndarray, "side side 3"]:
    try:
        return square(_as_file(record))
    # Pillow raises what it likes on a file that it cannot read.
    except Exception as error:
        raise UserError(
            f"run.py cannot read {record.id}, which the study could ({error}); nothing was exported: save that image as an"
            " 8-bit PNG, or export the weights alone (--out=FILE.safetensors)"
        ) from None


def _as_file(record: Record) -> Path | io.BytesIO:
    """What the study read, as a file; an image that never was one becomes a PNG."""
    if isinstance(record.image, Path):
        return record.image
    if isinstance(record.image, Packed):
        return io.BytesIO(record.image.read())
    file = io.BytesIO()
    Image.fromarray(record.image).save(file, "png")
    file.seek(0)
    return file
