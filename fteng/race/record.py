"""race.json, as others read it. Imports no jax."""

from collections.abc import Mapping, Sequence
from typing import Any

from fteng import paths
from fteng.paths import StudyPaths
from fteng.trials import TrialSpec


def is_over(study: StudyPaths, specs: Sequence[TrialSpec], settings: Mapping[str, Any]) -> bool:
    """Whether the race over these trials, judged so, has ended, and all that it ran still stands."""
    if not study.race.exists():
        return False
    value = _read(study, "judge")
    ran = (trial for row in value["decisions"] if row["decision"] != "not begun" for trial in row["trials"])
    same = value["trials"] == [spec.id for spec in specs] and value["judge"] == dict(settings)
    return value["over"] and same and all(study.trial(trial).result.exists() for trial in ran)


def read_race(study: StudyPaths, record: Mapping[str, Any]) -> dict[str, Any] | None:
    """The race over the very trials of `record` (study.json), if it is one; of fewer trials it says nothing of the others. Those
    that were added by hand took no part. Raises UserError where it is damaged."""
    if record["config"]["sweep"]["search"] != "race" or not study.race.exists():
        return None
    race = _read(study)
    added = record.get("added", [])
    return race if race["trials"] == [row["id"] for row in record["trials"] if row["id"] not in added] else None


def _read(study: StudyPaths, *names: str) -> dict[str, Any]:
    mend = "delete it and run the study's command again"
    return paths.read_record(study.race, "over", "trials", "decisions", *names, mend=mend)
