"""The page of several studies: one self-contained HTML file, made from `comparison.json` alone. Imports no jax."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fteng import paths
from fteng.errors import UserError


def render(comparison: Mapping[str, Any], command: str) -> str:
    """The page as HTML. It holds everything it shows, loads nothing, and every name from the data is text in it.

    comparison: what `compare_studies.compare` returned; command: what makes this page again.
    """
    from fteng.report import compare_figures, compare_rows, view, words
    from fteng.report.shell import fill

    cleaned = view.clean(comparison)
    shown = {"comparison": cleaned, "drawn": compare_figures.draw(cleaned), "command": view.clean(command)}
    return fill("compare.html", (compare_rows, words), ("shared.js",), **shown)


def write(out: Path, workdirs: Sequence[Path], command: str) -> Path:
    """Write `index.html` and `comparison.json` of these studies into `out`; returns the path of the page.

    Raises UserError, a line for each folder that is no study or cannot be read, and where `out` is a file, holds a study's own page
    or cannot be written.
    """
    from fteng.report import compare_studies

    if out.exists() and not out.is_dir():
        raise UserError(f"--out: {out} is a file, it must be a folder, or a name for a new one")
    if (out / "summary.json").exists():
        raise UserError(f"--out: {out} holds the page of a study (summary.json), which this one would replace; name another folder")
    found = compare_studies.compare(compare_studies.read_studies(workdirs, out))
    page = out / "index.html"
    try:
        paths.write_text(page, render(found, command))
        paths.write_json(out / "comparison.json", found)
    except OSError as error:
        raise UserError(f"--out: cannot write to {out} ({error.strerror}); make room, or name another folder") from None
    return page
