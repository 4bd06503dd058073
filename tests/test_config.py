import dataclasses
import subprocess
import sys

import pytest

from fteng import config as schema
from fteng import main
from fteng.config import Config, every_key, to_dict
from fteng.config_check import check_flag, validate
from fteng.errors import UserError


def test_lists_are_normalised():
    config = Config()
    config.sweep.freeze_depths = (0, "4, stem", "all")  # type: ignore[assignment]
    config.sweep.learning_rates = [1e-3, 1]  # type: ignore[assignment]
    config.sweep.stage_sets = ("stem", ("block1", "block2"))  # type: ignore[assignment]
    validate(config)
    assert config.sweep.freeze_depths == ("0", "4", "stem", "all")
    assert config.sweep.learning_rates == (1e-3, 1.0)
    assert config.sweep.stage_sets == (("stem",), ("block1", "block2"))


def test_every_key_has_help_and_a_default_it_allows():
    validate(Config())
    for key in every_key():
        assert key.field.metadata["help"], key.name


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--config.train.epoch=3", "did you mean train.epochs?"),
        ("--config.learning_rates=3", "did you mean sweep.learning_rates?"),
        ("--config.train.zzz=3", "allowed: train.epochs"),
        ("--config.zzz=3", "allowed: experiment"),
        ("--config.train.epochs=many", "got 'many', allowed: int (default 6)"),
        ("--config.train.epochs=1.5", "got '1.5', allowed: int"),
        ("--config.sweep.learning_rates=1e-3,x", "allowed: list of float"),
        ("--config.train.epochs", "has no value"),
    ],
)
def test_a_wrong_flag_is_one_line(flag, says):
    with pytest.raises(UserError) as caught:
        check_flag(flag)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "key", "value", "says"),
    [
        ("train", "epochs", 0, "at least 1"),
        ("train", "epochs", 2.5, "allowed: int"),
        ("train", "epochs", True, "allowed: int"),
        ("train", "weight_decay", float("nan"), "got nan"),
        ("train", "head_init", "prob", "did you mean probe?"),
        ("sweep", "seeds", (), "sweep.seeds is empty"),
        ("sweep", "seeds", (1, 1), "a value stands twice"),
        ("sweep", "learning_rates", (0.0,), "above 0"),
        ("sweep", "freeze_depths", (), "both empty"),
        ("data", "val_fraction", 0.8, "leaves no image to train on"),
        ("sweep", "cache_gib", 2e6, "got 2000000.0, allowed: at most 1000000.0"),
        ("data", "fold", 100, "allowed: at least 0 and at most 99"),
    ],
)
def test_a_wrong_value_is_one_line(section, key, value, says):
    config = Config()
    setattr(getattr(config, section), key, value)
    with pytest.raises(UserError) as caught:
        validate(config)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_with_folds_the_share_of_the_test_set_is_not_looked_at():
    config = Config()
    config.data.val_fraction, config.data.test_fraction = 0.3, 0.75
    with pytest.raises(UserError, match="leaves no image to train on"):
        validate(config)
    config.data.folds = 5
    validate(config)


def test_to_dict_is_json_and_complete():
    flat = to_dict(Config())
    assert flat["sweep"]["freeze_depths"] == ["0", "all"]
    assert set(flat) == {field.name for field in dataclasses.fields(schema.Config)}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--config is missing"),
        (["--config=configs/digits.py"], "--workdir is missing"),
        (["--config=configs/no.py", "--workdir=x"], "no file 'configs/no.py'"),
        (["--confg=configs/digits.py"], "Did you mean: config"),
        (["--config=configs/digits.py", "--workdir=x", "stray"], "unexpected argument 'stray'"),
        (["--config=configs/digits.py", "--workdir=x", "--config.train.epochs=0"], "at least 1"),
    ],
)
def test_command_line_errors_are_one_line(arguments, says):
    # A process of its own: absl's flags are global to one.
    run = subprocess.run([sys.executable, "-m", "fteng.main", *arguments], capture_output=True, text=True, timeout=60)
    assert run.returncode == 2
    assert says in run.stderr
    assert run.stderr.count("\n") == 1
    assert run.stderr.startswith("fteng: ")


def test_help_names_every_key():
    text = main.help_text()
    assert all(key.name in text for key in every_key())


@pytest.mark.parametrize(
    ("body", "says"),
    [("    config.train.epoch = 3", "AttributeError: "), ("    1 / 0", "ZeroDivisionError: "), ("  indent(", "Error")],
)
def test_a_config_file_with_a_mistake_is_one_line(tmp_path, body, says):
    file = tmp_path / "mistaken.py"
    file.write_text(f"from fteng.config import Config\n\n\ndef get_config():\n    config = Config()\n{body}\n    return config\n")
    command = [sys.executable, "-m", "fteng.main", f"--config={file}", "--workdir=x"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 2, run.stderr
    assert says in run.stderr
    assert run.stderr.count("\n") == 1
