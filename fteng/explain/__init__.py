"""What only the networks can tell of a study that has ended: where they looked in their mistakes, what tuning changed in them.

It is computed once, kept in `WORKDIR/explained.json`, and read from there whenever the page is made.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fteng import paths
from fteng.data.prepare import Dataset
from fteng.errors import UserError
from fteng.explain.changes import change
from fteng.explain.look import make_look
from fteng.explain.saliency import explain_mistakes
from fteng.model import Model, read_model, study_images
from fteng.paths import StudyPaths
from fteng.progress import Reporter

# CKA of so many images is settled to a hundredth; on a CPU each plan walks them once.
_CKA_IMAGES = 128


def explain(files: StudyPaths, summary: Mapping[str, Any], reporter: Reporter) -> None:
    """Make sure that WORKDIR/explained.json is of this summary's recommendation; at once where it is, or nothing is recommended.

    What a user would have to mend (weights or images that are gone) is said and leaves the page without these pictures.
    """
    wanted = summary["explainable"]
    if wanted is None or _is_kept(files, wanted):
        return
    reporter.phase("explain", 2 + len(wanted["trials"]))
    try:
        model = read_model(files.root, wanted["name"])
        dataset = study_images(files.root, model)
        found = _found(files, model, dataset, wanted, reporter)
    except UserError as error:
        reporter.say(f"the page will not show where the network looked: {error}")
        return
    paths.write_json(files.explained, {"of": wanted, **found})


def _is_kept(files: StudyPaths, wanted: Mapping[str, Any]) -> bool:
    kept = files.explained
    if not kept.exists():
        return False
    try:
        found = paths.read_json(kept)
        return isinstance(found, dict) and found.get("of") == wanted and found.keys() >= {"saliency", "changes"}
    except UserError:
        # Cut short by a full disk, or edited: it is made anew.
        return False


def _found(files: StudyPaths, model: Model, dataset: Dataset, wanted: Mapping[str, Any], reporter: Reporter) -> dict[str, Any]:
    look = make_look(model)
    row_of = {name: row for row, name in enumerate(dataset.ids.tolist())}
    rows = np.array([row_of[name] for name in wanted["mistakes"]], np.int64)
    pictures = model.config.judge.pictures and len(rows) > 0
    saliency = explain_mistakes(model, look, dataset.images, rows, wanted["answers"], wanted["truths"]) if pictures else None
    reporter.advance(1, "mistakes")
    val = dataset.splits["val"]
    some = np.sort(np.random.default_rng(0).choice(val, min(_CKA_IMAGES, len(val)), replace=False))
    before = look.features(model.source.params, model.source.stats, dataset.images, some)
    reporter.advance(1, "before tuning")
    changes = []
    for name in wanted["trials"]:
        trained = model if name == model.name else read_model(files.root, name)
        changes.append({"trial": name, "stages": change(trained, look, before, dataset.images, some)})
        reporter.advance(1, name)
    return {"saliency": saliency, "changes": {"images": len(some), "trials": changes}}
