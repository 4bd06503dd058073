"""What a user calls a trial or a probe of a study, on every command line alike. Imports no jax."""

from collections.abc import Mapping, Sequence
from typing import Any

from fteng import paths
from fteng.errors import UserError
from fteng.paths import StudyPaths

# The help of --trial.
TRIAL = "a trial's id or a beginning that no other has, or probe:STAGE (default: what the report recommends)"
_PROBE = "probe:"
# Of many ids, how many a message names.
_SHOWN = 4


def name_of(row: Mapping[str, Any]) -> str:
    """Of a row of the depth curve in summary.json: the id of its first trial, or `probe:STAGE`."""
    return row["trials"][0] if row["trials"] else of_probe(row["tap"])


def of_probe(tap: str) -> str:
    """The name of a stage's probe."""
    return f"{_PROBE}{tap}"


def tap_of(name: str, stages: Sequence[str]) -> str | None:
    """The stage of a probe's name; None for a trial's. Raises UserError where there is no such stage."""
    if not name.startswith(_PROBE):
        return None
    tap = name.removeprefix(_PROBE)
    if tap not in stages:
        raise UserError(f"no stage is called {tap!r}; allowed: {', '.join(stages)}")
    return tap


def find_id(name: str, ids: Sequence[str], *, probes: bool = True) -> str:
    """The id that is `name`, or alone begins so. probes: probe:STAGE would have done too. Raises UserError."""
    found = [known for known in ids if known == name] or [known for known in ids if known.startswith(name)]
    if len(found) != 1:
        some = ", ".join((found or ids)[:_SHOWN]) + ", ..." * (len(found or ids) > _SHOWN)
        what = "fits several trials" if found else "is no trial of this study"
        raise UserError(f"{name!r} {what}; allowed: {'probe:STAGE, or ' * probes}one of {some}")
    return found[0]


def recommended(study: StudyPaths) -> str:
    """The name of what the report recommends. Raises UserError where it recommends nothing, or is damaged."""
    kept = study.summary
    try:
        summary: Any = paths.read_json(kept) if kept.exists() else {"recommendation": None}
        choice = summary["recommendation"]
        name = "" if choice is None else name_of(summary["depth_curve"][choice["row"]])
    except (UserError, KeyError, IndexError, TypeError):
        raise UserError(f"{kept} is damaged; make it anew: python -m fteng.report {study.root}") from None
    if not name:
        raise UserError(f"{study.root} recommends nothing yet; finish the study, or name a trial (a folder of {study.trials})")
    return name
