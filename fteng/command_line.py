"""`--config=FILE --config.KEY=VALUE ...` as a config, for every command that takes one. Imports no jax."""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from fteng import config_check
from fteng.config import Config
from fteng.errors import UserError

_CONFIG = config_flags.DEFINE_config_file("config", None, "File with get_config(), for example configs/demo.py.")


def parse(argv: Sequence[str]) -> Config:
    """The validated config of a command line. Raises UserError with one line on anything it cannot take."""
    for argument in argv[1:]:
        name, _, value = argument.partition("=")
        if name.startswith("--config."):
            config_check.check_flag(argument)
        # absl would put off a missing file until the config is used, and then blame its type.
        if name == "--config" and not Path(value.partition(":")[0]).is_file():
            raise UserError(f"--config: no file {value!r}; give one, for example --config=configs/demo.py")
    try:
        rest = flags.FLAGS(list(argv))
        loaded = _CONFIG.value
    except UserError:
        raise
    except Exception as error:  # a config file is a program: whatever it raises is the user's to mend
        said = " ".join(str(error.args[0] if error.args else error).split())
        kind = "" if isinstance(error, flags.Error) else f"the config file raises {type(error).__name__}: "
        raise UserError(f"{kind}{said}; see python -m fteng.main --help") from None
    if rest[1:]:
        raise UserError(f"unexpected argument {rest[1]!r}; every setting is written --name=value, see python -m fteng.main --help")
    if type(loaded).__name__ == "_ErrorConfig":
        raise UserError(f"--config: get_config() of {argv[1:]} failed; run the file alone to see why")
    if loaded is None:
        raise UserError("--config is missing; give a file, for example --config=configs/demo.py")
    return config_check.validate(loaded)
