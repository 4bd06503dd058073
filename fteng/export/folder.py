"""The model folder: weights, what belongs to them, and a program that runs without fteng."""

import os
import shutil
from pathlib import Path

from fteng import paths
from fteng.analysis.calibration import fit_temperature
from fteng.errors import UserError
from fteng.export.card import Card, write_card
from fteng.export.check import check_parts, compare_pixels
from fteng.export.program import serialize
from fteng.export.weights import as_studied, write_weights
from fteng.model import Model, stored_answers, study_images
from fteng.paths import StudyPaths


def write_folder(workdir: Path, model: Model, out: Path, naming: str = "", *, onnx: bool = False) -> list[str]:
    """Write the folder `out`; it appears whole, and only if every part answers as the model does. Returns what there is to say.

    Raises UserError: where `out` exists, where the study's images are gone, where an answer differs by more than
    `check.TOLERANCE`.
    """
    if out.exists():
        raise UserError(f"--out: {out} exists; name another folder, or delete it")
    study = StudyPaths(workdir)
    if not study.summary.exists():
        raise UserError(
            f"{workdir} has no report, which the model card is made of; finish the study, or: python -m fteng.report {workdir}"
        )
    try:
        dataset = study_images(workdir, model)
    except UserError as error:
        raise UserError(f"cannot check a model folder without the study's images ({error})") from None
    temperature = fit_temperature(stored_answers(workdir, model)["val"])
    beside = out.with_name(f".{os.getpid()}.{out.name}")
    try:
        beside.mkdir(parents=True)
        said = write_weights(model, beside / "weights.safetensors", naming)
        _describe(model, temperature, beside)
        (beside / "program.stablehlo").write_bytes(serialize(model, temperature or 1.0))
        shutil.copyfile(Path(__file__).with_name("run.py"), beside / "run.py")
        if onnx:
            from fteng.export.onnx import write_onnx

            write_onnx(model, temperature or 1.0, beside / "model.onnx")
        checks = check_parts(model, temperature or 1.0, dataset, beside)
        pixels = compare_pixels(model, temperature or 1.0, dataset, beside)
        files = sorted(file.name for file in beside.iterdir())
        paths.write_text(beside / "README.md", write_card(Card(study, model, temperature, files, checks, pixels)))
        beside.replace(out)
    except OSError as error:
        raise UserError(f"--out: cannot write {out} ({error.strerror}); name another place") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    size = sum(file.stat().st_size for file in out.iterdir())
    worst = max(checks, key=lambda check: check.difference)
    return [
        f"{model.name} as {out} ({size / 1e6:.1f} MB); checked on {worst.images} test images: no probability differs by more than"
        f" {worst.difference:.1e} ({worst.part})",
        *said[1:],
    ]


def _describe(model: Model, temperature: float | None, folder: Path) -> None:
    """The JSON files."""
    how = as_studied(model)
    paths.write_json(
        folder / "preprocessing.json",
        how._asdict()
        | {
            "resize": model.config.data.resize,
            "input": "uint8 RGB (n, image_size, image_size, 3); mean, std and channel_order are applied inside the program",
        },
    )
    paths.write_json(folder / "labels.json", {"classes": list(model.classes)})
    paths.write_json(
        folder / "calibration.json",
        {
            "method": "softmax(logits / temperature), fitted on the study's validation images, applied inside the program",
            "temperature": temperature,
        },
    )
