"""A record read so that what a full disk or an editor left of it ends in one line. Imports no jax."""

from pathlib import Path
from typing import Any

from fteng import paths
from fteng.errors import UserError


def read_record(path: Path, *names: str, mend: str) -> dict[str, Any]:
    """The mapping of a JSON file that has `names`. Raises UserError where it is no JSON, or another one; mend: what to do then."""
    try:
        value = paths.read_json(path)
    except UserError:
        raise UserError(f"{path} is not JSON; {mend}") from None
    lost = list(names) if not isinstance(value, dict) else [name for name in names if name not in value]
    if lost or not isinstance(value, dict):
        raise UserError(f"{path} is damaged (it lacks {', '.join(lost) or 'everything'}); {mend}")
    return value
