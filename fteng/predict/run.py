"""One run of predictions, from the names of images to the file of answers."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.special import softmax

from fteng import paths, record
from fteng.data.pixels import Settings, settings_of
from fteng.errors import UserError
from fteng.model import Model, read_model
from fteng.predict.output import ENDINGS, Answer, Done, Output, OutputColumns, is_finished, open_output
from fteng.predict.reading import read_batches
from fteng.predict.reference import Reference, read_reference
from fteng.predict.see import See, make_see
from fteng.predict.unlike import distances
from fteng.predict.views import VIEWS, choose_views
from fteng.predict.wanted import Columns, Listing, Wanted, find_images
from fteng.progress import Reporter


class Options(NamedTuple):
    """trial: as of `read_model`; tta: see `choose_views`; columns of tables: empty for those of the study."""

    trial: str = ""
    tta: str = "none"
    path_column: str = ""
    group_column: str = ""


def predict(workdir: Path, places: Sequence[Path], out: Path, options: Options, reporter: Reporter) -> str:
    """Answer every image of `places` in `out`; returns what there is to say. Raises UserError."""
    if out.suffix not in ENDINGS:
        raise UserError(f"--out: got {str(out)!r}, allowed: a name that ends in {' or '.join(ENDINGS)}")
    model = read_model(workdir, options.trial)
    data = model.config.data
    views = choose_views(options.tta, model.config.train.augment)
    columns = Columns(
        options.path_column or data.path_column, options.group_column or data.group_column, bool(options.group_column)
    )
    listing = find_images(places, columns)
    for note in listing.notes:
        reporter.say(note)
    size, see = batch_size(), make_see(model, VIEWS[views])
    reference = read_reference(workdir, model, views, see, size, reporter)
    if reference.note:
        reporter.say(reference.note)
    about = _about(model, views, listing, reference)
    if is_finished(out, about):
        return f"{out} has all {len(listing.images)} answers already; delete it to make it anew"
    settings = settings_of(data, model.backbone.preprocess.resampling)
    with open_output(out, OutputColumns(model.classes, listing.grouped), listing.images, about, size) as output:
        reporter.phase("predict", len(listing.images))
        reporter.advance(output.done.rows)
        done = answer_all(listing.images, output, see, reference, settings, size, reporter)
    return _said(out, model, done, reference)


def batch_size() -> int:
    """Images at once: as many as are fast; on a CPU more would only take more memory."""
    return 32 if jax.default_backend() == "cpu" else 128


def readers() -> int:
    """Threads that decode. Where the network runs on the same cores, more than half as many only stand in its way."""
    cores = os.cpu_count() or 1
    return max(1, cores // 2) if jax.default_backend() == "cpu" else cores


def answer_all(
    images: Sequence[Wanted],
    output: Output,
    see: See,
    reference: Reference,
    settings: Settings,
    size: int,
    reporter: Reporter,
) -> Done:
    """Write the rows that are missing; returns what stands in the file then.

    While the device works on a batch, the next ones are decoded and the answers before it are written.
    """
    _, errors, unlike = output.done
    limits = None if reference.limits is None else jax.device_put(reference.limits)
    measure = jax.jit(distances)

    def write(part: Sequence[Wanted], logits: Any, far: Any, wrong: Sequence[str]) -> None:
        nonlocal errors, unlike
        rows = _rows(np.asarray(logits)[: len(wrong)], None if far is None else np.asarray(far), wrong, reference)
        output.write(part, rows)
        errors += sum(bool(row.error) for row in rows)
        # What could not be read is black here, and says nothing of anybody's images.
        unlike += sum(not row.error and row.unlike is not None and row.unlike > 1 for row in rows)
        reporter.advance(len(part), f"{errors} unreadable" if errors else None)

    waiting: tuple[Sequence[Wanted], Any, Any, Sequence[str]] | None = None
    at = output.done.rows
    for batch in read_batches(images[at:], settings, size, readers()):
        part = images[at : at + len(batch.errors)]
        at += len(part)
        seen = see(batch.images)
        far = None if limits is None else measure(limits, seen.features)
        if waiting:
            write(*waiting)
        waiting = (part, seen.logits, far, batch.errors)
    if waiting:
        write(*waiting)
    return Done(len(images), errors, unlike)


def _rows(logits: np.ndarray, far: np.ndarray | None, errors: Sequence[str], reference: Reference) -> list[Answer]:
    """logits: (n, classes); far: (n or more,) distances; errors: of n images."""
    wide = logits.astype(np.float64)
    raw, calibrated = softmax(wide, axis=1).tolist(), softmax(wide / (reference.temperature or 1.0), axis=1).tolist()
    scores: list[float | None] = [None] * len(errors)
    if far is not None and reference.limits is not None:
        scores = (far[: len(errors)] / reference.limits.limit).tolist()
    return [Answer(*values) for values in zip(calibrated, raw, scores, errors, strict=True)]


def _about(model: Model, views: str, listing: Listing, reference: Reference) -> dict[str, Any]:
    """What decides the rows, for whoever reads them later, and for a run that would go on."""
    limits = reference.limits
    return {
        "model": model.name,
        "backbone": model.backbone.name,
        "weights": model.source.digest,
        "classes": list(model.classes),
        "views": views,
        "temperature": reference.temperature,
        "unlike": None if limits is None else {"limit": limits.limit, "train_images": limits.train, "val_images": limits.val},
        "images": len(listing.images),
        "paths": paths.digest([[wanted.path, wanted.group] for wanted in listing.images]),
        "versions": record.versions(),
    }


def _said(out: Path, model: Model, done: Done, reference: Reference) -> str:
    said = [f"{done.rows} images by {model.name}: {out}"]
    if done.errors:
        said.append(f"{done.errors} could not be read; their rows say why")
    if done.unlike:
        said.append(f"{done.unlike} are unlike the training images (unlike = true): look at them before you believe an answer")
    if reference.temperature is None:
        said.append(
            "probabilities are not calibrated: validation gives no temperature, every image is right or the logits say nothing"
        )
    return "\n".join(said)
