"""Packages that not every user needs: imported when a file or a reference asks for them."""

import importlib
from typing import Any

from fteng.errors import UserError


def need(module: str, extra: str, purpose: str) -> Any:
    """The module. Raises UserError that says which extra of fteng brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{purpose} needs {module}, which cannot be imported ({error}); pip install 'fteng[{extra}]'") from None
