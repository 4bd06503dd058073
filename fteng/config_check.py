"""The one place where a config is judged: a flag before it is taken, and all keys of a config that came from a file or a record."""

import difflib
import math
import typing
from typing import Any

from fteng.config import Config, Key, every_key, type_name
from fteng.errors import UserError


def check_flag(argument: str) -> None:
    """Judges one `--config.a.b=value` before absl sees it. Raises UserError on an unknown key or a value of a wrong type."""
    name, equals, text = argument.removeprefix("--config.").partition("=")
    schema = {key.name: key for key in every_key()}
    if name not in schema:
        raise UserError(f"unknown config key: got --config.{name}; {_nearest(name, schema)}; all keys: python -m fteng.main --help")
    annotation = schema[name].type
    if not equals:
        if annotation is bool:
            return
        raise UserError(f"--config.{name} has no value; write --config.{name}=VALUE ({type_name(annotation)})")
    element = typing.get_args(annotation)[0] if typing.get_origin(annotation) is tuple else annotation
    if element in (int, float):
        for part in text.strip("()[] ").split(","):
            try:
                element(part or "0")
            except ValueError:
                raise UserError(
                    f"--config.{name}: got {text!r}, allowed: {type_name(annotation)} (default {schema[name].field.default!r})"
                ) from None


def _nearest(name: str, schema: typing.Iterable[str]) -> str:
    """What was probably meant: the same leaf elsewhere, a near name, else what the section has."""
    known = list(schema)
    section, _, leaf = name.rpartition(".")
    moved = [key for key in known if key.rpartition(".")[2] == leaf]
    close = moved or difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    if close:
        return f"did you mean {close[0]}?"
    return f"allowed: {', '.join(key for key in known if not section or key.startswith(section + '.')) or ', '.join(known)}"


def validate(config: Any) -> Config:
    """The config with lists normalised (`"0,4,all"` is `("0", "4", "all")`); raises UserError on the first thing that is wrong."""
    if not isinstance(config, Config):
        raise UserError(f"get_config() must return fteng.config.Config, got {type(config).__name__}; see configs/digits.py")
    for key in every_key():
        section, _, attribute = key.name.rpartition(".")
        holder = getattr(config, section) if section else config
        setattr(holder, attribute, _checked(key, getattr(holder, attribute)))
    _check_combinations(config)
    return config


def check_item(name: str, value: Any, shown: str) -> None:
    """One value of a key that takes several, under the name by which it was given. Raises UserError."""
    key = next(key for key in every_key() if key.name == name)._replace(name=shown)
    _scalar(key, typing.get_args(key.type)[0], value)
    if name == "sweep.learning_rates":
        _check_rates([value], shown)


def _checked(key: Key, value: Any) -> Any:
    """`value` in the type of `key`, or UserError."""
    if typing.get_origin(key.type) is tuple:
        element = typing.get_args(key.type)[0]
        items = list(value) if isinstance(value, (list, tuple)) else [value]
        if element is str:
            items = [part.strip() for item in items for part in str(item).split(",") if part.strip()]
        elif typing.get_origin(element) is tuple:
            items = [(item,) if isinstance(item, str) else item for item in items]
            if not all(isinstance(item, (list, tuple)) and all(isinstance(name, str) for name in item) for item in items):
                raise UserError(
                    f"{key.name}: got {value!r}, allowed: {type_name(key.type)}, for example (('stem',), ('block1', 'block2'))"
                )
            return tuple(tuple(item) for item in items)
        return tuple(_scalar(key, element, item) for item in items)
    return _scalar(key, key.type, value)


def _scalar(key: Key, annotation: type, value: Any) -> Any:
    meta = key.field.metadata
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not annotation:
        raise UserError(f"{key.name}: got {value!r} ({type(value).__name__}), allowed: {type_name(key.type)}")
    if meta["choices"] and value not in meta["choices"]:
        close = difflib.get_close_matches(str(value), meta["choices"], n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UserError(f"{key.name}: got {value!r}, allowed: {', '.join(choice or '(empty)' for choice in meta['choices'])}{hint}")
    if isinstance(value, (int, float)):
        low, high = meta["low"], meta["high"]
        if not math.isfinite(value) or (low is not None and value < low) or (high is not None and value > high):
            bounds = [f"{word} {bound}" for word, bound in (("at least", low), ("at most", high)) if bound is not None]
            bounds += [] if math.isfinite(value) else ["finite"]
            raise UserError(f"{key.name}: got {value}, allowed: {' and '.join(bounds)}")
    return value


def _check_combinations(config: Config) -> None:
    """What no single key can know."""
    for name in ("taps", "learning_rates", "seeds", "leaves", "batch_norm", "layer_decays", "unfreezing", "init"):
        values = getattr(config.sweep, name)
        if not values:
            raise UserError(f"sweep.{name} is empty; give at least one value")
        if len(set(values)) != len(values):
            raise UserError(f"sweep.{name}: got {values}, a value stands twice; name each once")
    if not config.sweep.freeze_depths and not config.sweep.stage_sets:
        raise UserError("sweep.freeze_depths and sweep.stage_sets are both empty; give a freeze depth, for example 0,all")
    _check_rates(config.sweep.learning_rates, "sweep.learning_rates")
    # With folds the test set is one of them.
    if not config.data.folds and config.data.val_fraction + config.data.test_fraction >= 1:
        raise UserError(
            f"data.val_fraction + data.test_fraction = {config.data.val_fraction + config.data.test_fraction:g} leaves no image to"
            " train on; make their sum less than 1"
        )


def _check_rates(rates: typing.Iterable[float], shown: str) -> None:
    for rate in rates:
        if rate <= 0:
            raise UserError(f"{shown}: got {rate}, allowed: above 0")


def from_dict(value: dict[str, Any]) -> Config:
    """The config that `to_dict` wrote. Raises UserError on a key that is missing, as another version of fteng leaves it."""
    config = Config()
    for key in every_key():
        section, _, attribute = key.name.rpartition(".")
        try:
            setattr(getattr(config, section) if section else config, attribute, (value[section] if section else value)[attribute])
        except KeyError:
            raise UserError(f"study.json has no {key.name}: another version of fteng wrote it; run the study again") from None
    return validate(config)
