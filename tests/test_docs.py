"""Every command of the documents is one that exists, and those of the guides run, in their order, as a reader types them.

A guide's commands stand in ```bash blocks. Below a block may stand what a reader sees too: *Tested with* `FLAGS`, which take the
place of the same flags or are added, or *Not run by the tests*: why. Everything else runs word by word.
"""

import ast
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from fteng import config as schema
from fteng import config_check
from fteng.errors import UserError
from tests.data import isic_folder

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# In an order in which each finds what it needs: the first two make the studies that the others speak of.
GUIDES = ("tutorial.md", "bring-your-data.md", "read-the-report.md", "how-the-recommendation-is-made.md", "predict.md")
# These serve until they are stopped, or are somebody else's.
_FOREIGN = {"tensorboard", "isic", "source", "git", "apt-get", "squeue", "scancel"}
_PROGRAMS = {"make", "python", ".venv/bin/python", "pip", "pipx", "pytest", "sbatch", "./.ci/run"} | _FOREIGN
_FENCE = re.compile(r"^```(\w*)\s*$")
_INLINE = re.compile(r"`((?:python -m|make|pip install|pytest) [^`]+)`")
# A value or path that the reader puts in.
_BLANK = re.compile(r"\.\.\.|[A-Z][A-Z_]+")


class Command(NamedTuple):
    """One line of a document. tested_with: flags that its test puts in; not_run: whether the document says that it is not run."""

    doc: str
    line: int
    text: str
    tested_with: tuple[str, ...] = ()
    not_run: bool = False


def read(doc: Path) -> tuple[list[Command], list[Command]]:
    """The commands of ```bash blocks, and those that stand elsewhere: indented, or in a sentence."""
    lines = doc.read_text(encoding="utf-8").splitlines()
    for row in range(len(lines) - 1, 0, -1):
        if lines[row - 1].endswith("\\"):
            lines[row - 1], lines[row] = f"{lines[row - 1][:-1].rstrip()} {lines[row].strip()}", ""
    blocks: list[Command] = []
    others: list[Command] = []
    at = 0
    while at < len(lines):
        fence = _FENCE.match(lines[at])
        if fence is None:
            others += _outside(doc.name, at, lines[at])
            at += 1
            continue
        end = next(row for row in range(at + 1, len(lines)) if lines[row].startswith("```"))
        if fence.group(1) in ("bash", "sh"):
            note = " ".join(iter_paragraph(lines, end + 1))
            marked = re.match(r"\*Tested with\* `([^`]*)`", note)
            flags = tuple(shlex.split(marked.group(1))) if marked else ()
            blocks += [
                Command(doc.name, row + 1, lines[row], flags, note.startswith("*Not run by the tests*"))
                for row in range(at + 1, end)
                if lines[row].strip()
            ]
        at = end + 1
    return blocks, others


def iter_paragraph(lines: list[str], start: int) -> list[str]:
    """The lines from there to the next empty one."""
    end = next((row for row in range(start, len(lines)) if not lines[row].strip()), len(lines))
    return lines[start:end]


def _outside(doc: str, at: int, line: str) -> list[Command]:
    if line.startswith("    ") and line.split()[:1] and line.split()[0] in _PROGRAMS:
        return [Command(doc, at + 1, line.strip())]
    return [Command(doc, at + 1, text) for text in _INLINE.findall(line)]


ALL = [(block, True) for doc in DOCS for block in read(doc)[0]] + [(other, False) for doc in DOCS for other in read(doc)[1]]


@cache
def words_of(module: str) -> frozenset[str]:
    """Every text in the source of a module's command line, where the names of its flags stand."""
    place = ROOT.joinpath(*module.split("."))
    files = [path for path in (place.with_suffix(".py"), *sorted(place.glob("*.py"))) if path.is_file()]
    assert files, f"there is no module {module}"
    constants = [node for path in files for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
    return frozenset(node.value for node in constants if isinstance(node.value, str))


def judge(command: Command) -> None:
    """Fails unless program, module, flags, config keys and files are there."""
    tokens = shlex.split(command.text, comments=True)
    tokens = tokens[: tokens.index("|")] if "|" in tokens else tokens
    program, *rest = tokens
    assert program in _PROGRAMS, f"{program} is no program that a document may name"
    if program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in rest if "=" not in word} <= set(targets)
    elif program in ("pip", "pipx"):
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for wanted in re.findall(r"fteng\[([\w,-]+)\]", command.text):
            assert set(wanted.split(",")) <= set(extras)
    elif program in ("pytest", "sbatch"):
        files = [word for word in rest if "/" in word and not word.startswith("-") and "=" not in word]
        assert [name for name in files if not _BLANK.search(name) and not (ROOT / name).exists()] == []
    elif program.endswith("python"):
        assert rest[0] == "-m", "python runs modules of this project here"
        if rest[1] != "tests":
            _judge_module(rest[1], [*rest[2:], *command.tested_with])


# Whose flags a module takes beside its own.
_HANDS_ON = {"launch.sweep": "fteng.main"}


def _judge_module(module: str, arguments: list[str]) -> None:
    if _BLANK.fullmatch(module.rpartition(".")[2]):
        return
    known = words_of(module) | words_of(_HANDS_ON.get(module, module))
    for argument in arguments:
        name = argument.partition("=")[0]
        if name.startswith("--config."):
            config_check.check_flag(argument)
        elif name.startswith("-") and name != "--help":
            assert {name, name.lstrip("-")} & known, f"{module} has no flag {name}"
    given = next((argument.partition("=")[2] for argument in arguments if argument.startswith("--config=")), "...")
    if not _BLANK.search(given):
        _validated(given, [argument for argument in arguments if argument.startswith("--config.")])


def _validated(file: str, overrides: list[str]) -> schema.Config:
    """The config that a command line makes, judged as the program judges it."""
    path, _, variant = file.partition(":")
    spec = importlib.util.spec_from_file_location("documented", ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(*[variant] * bool(variant))
    kinds = {key.name: key.type for key in schema.every_key()}
    for override in overrides:
        name, _, text = override.removeprefix("--config.").partition("=")
        section, _, leaf = name.rpartition(".")
        setattr(getattr(config, section) if section else config, leaf, _typed(kinds[name], text))
    return config_check.validate(config)


def _typed(kind: object, text: str) -> object:
    """A flag's text in the type of its key, as far as one is needed."""
    if kind in (int, float):
        return kind(text)  # pyright: ignore[reportCallIssue]
    if kind is bool:
        return text in ("", "true", "True")
    if kind in (tuple[float, ...], tuple[int, ...]):
        number = float if kind == tuple[float, ...] else int
        return tuple(number(part) for part in text.split(","))
    return tuple(text.split(",")) if kind == tuple[str, ...] else text


@pytest.mark.parametrize("command", [command for command, _ in ALL], ids=lambda command: f"{command.doc}:{command.line}")
def test_every_command_exists(command: Command) -> None:
    judge(command)


@pytest.mark.parametrize(
    "wrong",
    [
        "make demon",
        "python -m fteng.mane --config=configs/demo.py",
        "python -m fteng.predict runs/mine --output=x.csv",
        "python -m fteng.main --config=configs/demo.py --config.sweep.depths=0",
        "python -m fteng.main --config=configs/demo.py --config.sweep.search=fast",
        "python -m fteng.main --config=configs/domo.py --workdir=runs/demo",
        "pip install 'fteng[hubs]'",
        "pytest tests/test_nothing.py",
        "pyton -m fteng.main",
    ],
)
def test_a_wrong_command_is_found(wrong: str) -> None:
    with pytest.raises((AssertionError, UserError, FileNotFoundError)):
        judge(Command("", 0, wrong))


def test_documents_are_read() -> None:
    counts = {doc: sum(command.doc == doc for command, _ in ALL) for doc in ("README.md", *GUIDES)}
    assert min(counts.values()) >= 1
    assert counts["tutorial.md"] >= 9


@pytest.mark.parametrize("doc", DOCS, ids=lambda doc: doc.name)
def test_links_lead_somewhere(doc: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", doc.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (doc.parent / link).exists()] == []


def as_tested(command: Command) -> str:
    """The line with the flags that its document says are put in."""
    replaced = {flag.partition("=")[0] for flag in command.tested_with}
    words = [word for word in shlex.split(command.text) if word.partition("=")[0] not in replaced]
    return shlex.join([*words, *command.tested_with]) if command.tested_with else command.text


def _write_images(folder: Path, count: int, level: float, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    names = [f"{index:03}.png" for index in range(count)]
    for name in names:
        Image.fromarray(np.uint8(np.clip(rng.normal(level, 40, (40, 40, 3)), 0, 255))).save(folder / name)
    return names


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder as the reader has it: the repository's configs and environment, and images of one's own."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    table = ["path,label,group,split,site"]
    for seed, (label, level) in enumerate({"benign": 110.0, "malignant": 140.0}.items()):
        _write_images(tmp_path / "MY_IMAGES" / label, 30, level, seed)
        names = _write_images(tmp_path / "MY_TABLE" / "img" / label, 60, level, 7 + seed)
        for index, name in enumerate(names):
            part = ("train", "train", "val", "test")[index // 2 % 4]
            table.append(f"img/{label}/{name},{label},{label}-patient{index // 2},{part},{('back', 'leg')[index % 2]}")
    (tmp_path / "MY_TABLE" / "images.csv").write_text("\n".join(table) + "\n")
    _write_images(tmp_path / "NEW_IMAGES", 5, 120.0, 20)
    isic_folder.make(tmp_path / "data" / "isic")
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_guides_run(desk: Path) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    ran = 0
    for guide in GUIDES:
        blocks, others = read(ROOT / "docs" / guide)
        # Two guides ask different models; neither writes over what the other left, nor should it.
        for left in [*desk.glob("predictions*"), desk / "tuned.safetensors"]:
            left.unlink(missing_ok=True)
        shutil.rmtree(desk / "my-model", ignore_errors=True)
        for command in blocks + [other for other in others if guide == "predict.md"]:
            text = as_tested(command)
            if command.not_run or shlex.split(text, comments=True)[0] in ("pip", *_FOREIGN) or "..." in text:
                continue
            if "benchmarks." in text or text.startswith("make "):
                continue
            ended = subprocess.run(
                ["bash", "-c", text], cwd=desk, env=environment, capture_output=True, text=True, timeout=400, check=False
            )
            assert ended.returncode == 0, f"{command.doc}:{command.line}: {text}\n{ended.stderr[-2000:]}"
            ran += 1
    assert ran >= 17
    assert (desk / "runs" / "compared" / "index.html").is_file()
    assert len((desk / "predictions.csv").read_text().splitlines()) == 6
