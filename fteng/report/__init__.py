"""The page of a study: one self-contained HTML file, made from the summary alone. Imports no jax."""

import base64
import hashlib
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
    import jinja2
    from markupsafe import Markup

    from fteng.report import changes, curves, drawings, final, findings, flow, methods, mistakes, similarity, tables, view, words

    here = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(here),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    modules = (changes, curves, final, findings, flow, methods, mistakes, similarity, tables, view, words)
    environment.globals |= {module.__name__.rpartition(".")[2]: module for module in modules}
    script = "".join((here / name).read_text(encoding="utf-8") for name in ("shared.js", "script.js"))
    # The policy names this one script by its digest: nothing else can run, and no request can leave the page.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    cleaned = view.clean(summary)
    return environment.get_template("page.html").render(
        summary=cleaned,
        drawings=drawings.draw(cleaned),
        metrics=view.metrics(cleaned),
        style=Markup((here / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=digest,
    )


def write(report_dir: Path, summary: Mapping[str, Any]) -> Path:
    """Write `index.html` and `summary.json`, each beside and renamed into place; returns the path of the page."""
    page = report_dir / "index.html"
    paths.write_text(page, render(summary))
    paths.write_json(report_dir / "summary.json", summary)
    return page
