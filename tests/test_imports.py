"""The direction of imports, and which rooms know no jax."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
# A room may import from those before it in this order; rooms in one row may not import each other.
ORDER = [
    {"errors", "undefined"},
    {"locks"},
    {"config", "paths", "results", "progress"},
    {"config_check"},
    {"record", "analysis", "data", "named", "command_line"},
    {"similarity", "process", "distributed", "mesh"},
    {"freeze", "machine"},
    {"backbones", "trials", "feed"},
    {"entry"},
    {"train", "steer"},
    {"prefix", "probe"},
    {"starts", "library", "ground"},
    {"model", "sweep"},
    {"predict", "race", "explain"},
    {"survey", "pending"},
    {"export", "events", "study", "summary", "report", "challenge"},
    {"bill", "page"},
    {"jobs"},
    {"main"},
    {"source"},
]
RANK = {room: rank for rank, rooms in enumerate(ORDER) for room in rooms}
# `python -m fteng.report` makes the summary anew; the page itself is made from the summary alone.
EXCEPTIONS = {("report", "summary")}


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


# In an order in which each brings little that is new: the first to bring jax is named.
NO_JAX = (
    *(
        "fteng",
        "fteng.config",
        "fteng.config_check",
        "fteng.paths",
        "fteng.results",
        "fteng.progress",
        "fteng.record",
        "fteng.trials",
    ),
    *("fteng.freeze.plan", "fteng.steer.__main__", "fteng.distributed", "fteng.main", "fteng.jobs.claims", "fteng.jobs.__main__"),
    *(
        "launch.sweep",
        "fteng.race.decide",
        "fteng.race.field",
        "fteng.race.record",
        "fteng.similarity",
        "fteng.similarity.assess",
        "fteng.summary",
        "fteng.report",
    ),
    *("fteng.named", "fteng.challenge", "fteng.events", "fteng.export", "fteng.export.card"),
    *("fteng.predict.wanted", "fteng.predict.reading", "fteng.predict.output"),
)


def test_these_import_no_jax():
    lines = [
        "import importlib, sys",
        f"for name in {NO_JAX!r}:",
        "    importlib.import_module(name)",
        "    assert 'jax' not in sys.modules, name",
    ]
    ended = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
