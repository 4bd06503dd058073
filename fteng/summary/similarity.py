"""What was said of the data before the sweep, with its grades after it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fteng import paths
from fteng.analysis.bootstrap import depth_scores
from fteng.errors import UserError
from fteng.paths import StudyPaths
from fteng.similarity.assess import FORMAT
from fteng.similarity.grade import Measurement, grade
from fteng.summary.rows import Criteria, Row
from fteng.trials import Variant


def similarity(
    study: StudyPaths, rows: Sequence[Row], trials: Sequence[Mapping[str, Any]], criteria: Criteria, recommended: str
) -> dict[str, Any] | None:
    """probes/similarity.json and, as `grade`, what became of it; None where the study has none. Raises UserError on a
    record of another version.

    rows: every plan with a score, tuned and probed; trials: of the summary, for what the sweep took; recommended: the label
    of the row that the study recommends, empty where none is.
    """
    path = study.similarity
    if not path.exists():
        return None
    assessment = paths.read_record(path, "format", mend=f"delete {study.probes} and run the study again")
    if assessment.get("format") != FORMAT:
        raise UserError(
            f"{path} has format {assessment.get('format')}, this version of fteng reads {FORMAT}; delete {study.probes} and run the"
            " study again"
        )
    # Of its steps: the walk to the boundary is paid once for all.
    costs = {trial["id"]: trial["cost"] for trial in trials if trial["cost"] is not None}
    seconds = {name: cost["seconds"] - cost["prefix_seconds"] for name, cost in costs.items()}
    measured = [found for row in rows for found in _measurement(row, trials, seconds, criteria)]
    # A sweep that has measured nothing but probes has nothing to grade by.
    graded = grade(assessment, measured if seconds else [], sum(seconds.values(), 0.0), criteria.confidence, recommended)
    return {**assessment, "grade": graded}


def _measurement(
    row: Row, trials: Sequence[Mapping[str, Any]], seconds: Mapping[str, float], criteria: Criteria
) -> list[Measurement]:
    """One, and none for plans that no advice speaks of: stage sets, single leaves, other ways of training, controls."""
    entry = row.entry
    value = entry["test"][criteria.metric]["value"]
    usual = Variant(**entry["variant"]) == Variant() and entry["leaves"] == "all"
    if entry["freeze_depth"] is None or not usual or value is None:
        return []
    same = [
        trial["id"]
        for trial in trials
        if (trial["tap"], trial["freeze_depth"], trial["leaves"], dict(trial["variant"]))
        == (entry["tap"], entry["freeze_depth"], entry["leaves"], entry["variant"])
    ]
    took = sum(seconds.get(name, 0.0) for name in same) if entry["trials"] else 0.0
    draws = np.asarray(depth_scores(row.candidate.test, criteria.metric, criteria.weights["test"]))
    tuned = bool(entry["trainable_stages"])
    val = entry["val"][criteria.metric]["value"]
    return [Measurement(entry["tap"], entry["freeze_depth"], tuned, entry["label"], value, val, draws, took)]
