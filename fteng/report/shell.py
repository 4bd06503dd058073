"""What every page stands in: its template with style and script inside, and a policy by which nothing else runs or loads."""

import base64
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

_HERE = Path(__file__).parent


def fill(template: str, modules: Sequence[ModuleType], scripts: Sequence[str], **values: Any) -> str:
    """The page as HTML; whatever `values` say is text in it. modules: the template calls them by name; scripts: their files.

    The policy names the one script by its digest: nothing else can run, and no request can leave the page.
    """
    # Imports cost a second; a caller that only asks for --help should not pay it.
    from markupsafe import Markup

    script = "".join((_HERE / name).read_text(encoding="utf-8") for name in scripts)
    return (
        _environment(tuple(modules))
        .get_template(template)
        .render(
            style=Markup((_HERE / "style.css").read_text(encoding="utf-8")),
            script=Markup(script),
            script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            **values,
        )
    )


@functools.cache
def _environment(modules: tuple[ModuleType, ...]) -> Any:
    """Of jinja, which keeps the templates it compiled for all pages that a process makes."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {module.__name__.rpartition(".")[2]: module for module in modules}
    return environment
