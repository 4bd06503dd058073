"""fteng: how similar is my data to what the network saw, and how deep should I fine-tune?

As a library, on a network and arrays of your own (docs/library.md): `from_flax`, `to_flax`, `make_dataset`, `probe_stages`,
`prefix_plan`, `Trial`, `TrainConfig`, `UserError`. Each is loaded when it is first asked for: importing fteng imports no jax.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fteng.backbones.own import from_flax, to_flax
    from fteng.config import TrainConfig
    from fteng.data.arrays import make_dataset
    from fteng.errors import UserError
    from fteng.freeze.plan import prefix_plan
    from fteng.library import Trial, probe_stages

__version__ = "0.1.0"

__all__ = ["TrainConfig", "Trial", "UserError", "from_flax", "make_dataset", "prefix_plan", "probe_stages", "to_flax"]

_HOME = {
    "TrainConfig": "fteng.config",
    "Trial": "fteng.library",
    "UserError": "fteng.errors",
    "from_flax": "fteng.backbones.own",
    "make_dataset": "fteng.data.arrays",
    "prefix_plan": "fteng.freeze.plan",
    "probe_stages": "fteng.library",
    "to_flax": "fteng.backbones.own",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fteng' has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
