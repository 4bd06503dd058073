"""The page of a study: one self-contained HTML file, made from the summary alone. Imports no jax."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fteng import paths


def render(summary: Mapping[str, Any]) -> str:
    """The page as HTML. It holds everything it shows, loads nothing, and every name from the data is text in it.

    summary: the content of summary.json. A metric that is None is shown as undefined. The difference of an alternative says
    how much better (+) it is than the best plan on the validation images, in units of the metric.
    """
    # Altair and vl-convert cost a second to import; a caller that only asks for --help should not pay it.
    from fteng.report import (
        changes,
        curves,
        distances,
        drawings,
        final,
        findings,
        flow,
        methods,
        mistakes,
        similarity,
        tables,
        view,
        words,
    )
    from fteng.report.shell import fill

    modules = (changes, curves, distances, final, findings, flow, methods, mistakes, similarity, tables, view, words)
    cleaned = view.clean(summary)
    shown = {"summary": cleaned, "drawings": drawings.draw(cleaned), "metrics": view.metrics(cleaned)}
    return fill("page.html", modules, ("shared.js", "script.js"), **shown)


def write(report_dir: Path, summary: Mapping[str, Any]) -> Path:
    """Write `index.html` and `summary.json`, each beside and renamed into place; returns the path of the page."""
    page = report_dir / "index.html"
    paths.write_text(page, render(summary))
    paths.write_json(report_dir / "summary.json", summary)
    return page
