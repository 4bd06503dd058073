"""The direction of imports, and which rooms know no jax."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A room may import from those before it in this order; rooms in one row may not import each other.
ORDER = [
    {"errors"},
    {"config", "paths", "results", "progress"},
    {"record", "analysis", "data"},
    {"similarity", "process", "distributed", "mesh"},
    {"freeze"},
    {"backbones", "trials"},
    {"train", "steer"},
    {"prefix", "probe"},
    {"programs", "starts", "library"},
    {"model", "sweep"},
    {"predict", "race", "ground", "explain"},
    {"survey"},
    {"export", "events", "study", "summary", "report", "challenge"},
    {"bill", "page"},
    {"jobs"},
    {"main"},
    {"source"},
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
# `python -m fteng.report` makes the summary anew; the page itself is made from the summary alone.
EXCEPTIONS = {("report", "summary"), ("report", "report")}


def imports_of(path: Path) -> set[str]:
    """Rooms of fteng that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" if node.module == "fteng" else node.module for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("fteng.")}
    return found


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "fteng").parts[0].removesuffix(".py")


def test_imports_go_one_way():
    wrong = []
    for path in sorted((ROOT / "fteng").rglob("*.py")):
        room = room_of(path)
        for other in imports_of(path) if room != "__init__" else set():
            if other != room and RANK[other] >= RANK[room] and (room, other) not in EXCEPTIONS:
                wrong.append(f"{path.relative_to(ROOT)} imports fteng.{other}")
    assert not wrong


def test_launch_knows_no_networks():
    for path in (ROOT / "launch").rglob("*.py"):
        assert not imports_of(path) & {"backbones", "freeze", "train", "probe", "study"}, path


def test_the_launcher_imports_no_jax():
    code = "import sys, launch.sweep; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    "module",
    [
        *(
            "config",
            "paths",
            "results",
            "progress",
            "record",
            "trials",
            "freeze.plan",
            "race.decide",
            "similarity",
            "summary",
            "report",
        ),
        "distributed",
        *(
            "challenge",
            "events",
            "export",
            "export.card",
            "predict.wanted",
            "predict.reading",
            "predict.output",
            "main",
            "jobs.claims",
            "jobs.__main__",
        ),
    ],
)
def test_these_import_no_jax(module):
    code = f"import sys, fteng.{module}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
