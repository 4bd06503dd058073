"""The limits within which a model knows what it is talking about: made of the study's own images, kept in its work directory."""

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fteng import paths
from fteng.analysis.calibration import fit_temperature
from fteng.data.prepare import Dataset
from fteng.errors import UserError
from fteng.model import Model, stored_answers, study_images
from fteng.named import tap_of
from fteng.paths import StudyPaths
from fteng.predict.see import See, see_rows
from fteng.predict.unlike import Limits, fit_limits
from fteng.progress import Reporter
from fteng.results import Predictions

# More training images than these tell little more of their mean and covariance.
_MOST_TRAIN = 20_000


class Reference(NamedTuple):
    """limits: None where the study's images are gone; temperature: None where validation gives none; note: what is amiss."""

    limits: Limits | None
    temperature: float | None
    note: str


def read_reference(workdir: Path, model: Model, views: str, see: See, size: int, reporter: Reporter) -> Reference:
    """Limits and temperature of a model, found in the work directory or made anew from the study's images and kept there.

    size: of batches. The temperature of plain answers is that of the report; with views it is fitted on answers of that kind.
    """
    study = StudyPaths(workdir)
    record = paths.read_json(study.study)
    digest = paths.digest([record["weights"]["sha256"], record["dataset"]["digest"], model.name, views])
    probe = tap_of(model.name, model.plan.stages) is not None
    folder, name = (study.probes, f"-{model.plan.tap}") if probe else (study.trial(model.name).root, "")
    kept = folder / f"unlike{name}{'' if views == 'none' else f'-{views}'}.npz"
    plain = fit_temperature(stored_answers(workdir, model)["val"])
    found, note = _find(kept, digest), ""
    if found is None:
        try:
            dataset = study_images(workdir, model)
        except UserError as error:
            return Reference(None, plain, f"no warnings of images unlike the training images: {error}")
        found = _make(dataset, see, size, reporter)
        try:
            paths.write_by(kept, lambda path: np.savez(path, digest=digest, temperature=found[1] or np.nan, **found[0]._asdict()))
        except OSError as error:
            note = f"cannot keep {kept} ({error.strerror}); it will be made anew next time"
    return Reference(found[0], plain if views == "none" else found[1], note)


def _make(dataset: Dataset, see: See, size: int, reporter: Reporter) -> tuple[Limits, float | None]:
    train, val = dataset.splits["train"], dataset.splits["val"]
    if len(train) > _MOST_TRAIN:
        train = np.sort(np.random.default_rng(0).choice(train, _MOST_TRAIN, replace=False))
    reporter.phase("reference", len(train) + len(val))
    features, _ = see_rows(dataset.images, train, see, size, reporter.advance)
    of_val, logits = see_rows(dataset.images, val, see, size, reporter.advance)
    answers = Predictions(dataset.ids[val], dataset.groups[val], dataset.labels[val], logits)
    return fit_limits(features, dataset.labels[train], of_val), fit_temperature(answers)


def _find(kept: Path, digest: str) -> tuple[Limits, float | None] | None:
    """What was kept, if it is whole and of the same model, images and views."""
    try:
        with kept.open("rb") as file, np.load(file, allow_pickle=False) as loaded:
            if str(loaded["digest"]) != digest:
                return None
            temperature = float(loaded["temperature"])
            arrays = [loaded[name] for name in ("centre", "whitening", "means")]
            numbers = float(loaded["limit"]), int(loaded["train"]), int(loaded["val"])
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return Limits(arrays[0], arrays[1], arrays[2], *numbers), None if np.isnan(temperature) else temperature
