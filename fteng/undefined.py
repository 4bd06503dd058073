"""What has no value says why, in words: an exception on the way, a null with its reason in a record; never NaN."""

from collections.abc import Callable
from typing import Any

import numpy as np


class UndefinedError(ValueError):
    """The quantity has no meaning for this input. The text is the reason as a reader sees it."""


def stated(compute: Callable[[], float]) -> dict[str, Any]:
    """`value` and `reason` (empty where there is a value) of what compute() returns; None where it raises UndefinedError.

    A number that is not finite is None too: overflow is no answer.
    """
    try:
        value = float(compute())
    except UndefinedError as error:
        return {"value": None, "reason": str(error)}
    if not np.isfinite(value):
        return {"value": None, "reason": "the computation ended in no finite number"}
    return {"value": value, "reason": ""}
