"""Runs every benchmark, each as a process of its own, one after the other, and makes docs/results.md from their records.

    python -m benchmarks.all [--torch-python=PYTHON]           every record anew: hours, on a machine that does nothing else
    python -m benchmarks.all --quick [--torch-python=PYTHON]   does each of them run? Small, and no record is written
    python -m benchmarks.all --render                          the page alone, from benchmarks/records/*.json as they stand, and
                                                               what README and docs quote of it

Two benchmarks have PyTorch as their peer: PYTHON is one with torch, timm and torchvision (pip install 'fteng[bench]'), by default
this one. A benchmark that finds that it cannot run here is listed as not run, with its reason; its record stays as it was. So does
that of one that fails, which makes the exit status 1. `python -m benchmarks.NAME` runs one alone, `--help` behind it says what that
measures; benchmarks/records/NAME.json is what it leaves.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks import results
from benchmarks.plots import PLOTS, svg
from fteng import paths

_FOLDER = Path(__file__).parent
_ROOT = _FOLDER.parent
_PAGE = _ROOT / "docs" / "results.md"


class Benchmark(NamedTuple):
    """name: of the module and its record; flags: of the full run; torch: whether it wants --torch-python."""

    name: str
    flags: tuple[str, ...] = ()
    torch: bool = False


# In the order of the page.
BENCHMARKS = (
    Benchmark("demo"),
    Benchmark("sweep", ("--modes=eager,compile", "--compile-from=15"), torch=True),
    Benchmark("backbones", torch=True),
    Benchmark("probes"),
    Benchmark("convolution"),
    Benchmark("huge_pages"),
    Benchmark("population"),
    Benchmark("memory"),
    Benchmark("growth"),
    Benchmark("prepare"),
    Benchmark("feed"),
    Benchmark("predict"),
    Benchmark("page"),
    Benchmark("faults"),
    Benchmark("scale"),
    Benchmark("alarms"),
    Benchmark("strength"),
    Benchmark("race"),
    Benchmark("advice"),
)


class Outcome(NamedTuple):
    """how: ran, not run, or failed; why: the last line it printed, where it did not run."""

    how: str
    seconds: float
    why: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every benchmark's quick mode; no record is written")
    parser.add_argument("--render", action="store_true", help="run nothing, make the page from the records")
    parser.add_argument("--torch-python", default=sys.executable, metavar="PYTHON", help="a Python with torch (default: this one)")
    given = parser.parse_args()
    outcomes = {} if given.render else _run_all(given.quick, given.torch_python)
    paths.write_text(_PAGE, page(_FOLDER / "records"))
    records = read_records(_FOLDER / "records")
    for record in records:
        if record["benchmark"] in PLOTS:
            paths.write_text(_PAGE.parent / f"{record['benchmark']}.svg", svg(record["benchmark"], record["rows"]))
    for file in quoting():
        paths.write_text(file, results.quoted(file.read_text(encoding="utf-8"), records))
    print(f"page: {_PAGE}")
    return 1 if any(outcome.how == "failed" for outcome in outcomes.values()) else 0


def page(folder: Path) -> str:
    """The text of docs/results.md from the records in a folder, those of the list first."""
    names = [benchmark.name for benchmark in BENCHMARKS]
    records = read_records(folder)
    records.sort(key=lambda record: names.index(record["benchmark"]) if record["benchmark"] in names else len(names))
    commands = {
        benchmark.name: shlex.join(["python", "-m", f"benchmarks.{benchmark.name}", *benchmark.flags]) for benchmark in BENCHMARKS
    }
    return results.render(records, commands)


def quoting() -> list[Path]:
    """The pages that quote tables of the records."""
    files = [_ROOT / "README.md", *sorted((_ROOT / "docs").glob("*.md"))]
    return [file for file in files if "<!-- table " in file.read_text(encoding="utf-8")]


def read_records(folder: Path) -> list[dict[str, Any]]:
    """By name. A quick run is a check that a benchmark runs, so what one has left is no record."""
    return [paths.read_json(file) for file in sorted(folder.glob("*.json")) if "quick" not in file.stem.split("-")]


def _run_all(quick: bool, torch_python: str) -> dict[str, Outcome]:
    # Reasons name extras in brackets, which are no markup.
    console = Console(markup=False, highlight=False)
    outcomes: dict[str, Outcome] = {}
    for number, benchmark in enumerate(BENCHMARKS, 1):
        flags = (*(("--quick",) if quick else benchmark.flags), *((f"--torch-python={torch_python}",) if benchmark.torch else ()))
        console.rule(f"{number} of {len(BENCHMARKS)}: {benchmark.name} {' '.join(flags)}", align="left")
        outcome = run([sys.executable, "-m", f"benchmarks.{benchmark.name}", *flags])
        outcomes[benchmark.name] = outcome
        console.print(f"{benchmark.name}: {outcome.how}, {outcome.seconds:.0f} s")
    table = Table("benchmark", "how", "seconds", "why")
    for name, outcome in outcomes.items():
        table.add_row(name, outcome.how, f"{outcome.seconds:.0f}", outcome.why)
    console.print(table)
    return outcomes


def run(command: Sequence[str]) -> Outcome:
    """One benchmark to its end, its lines passed on as they come. The exit status EX_UNAVAILABLE says that it cannot run here."""
    # A pipe is no terminal, by which Python would keep lines back and rich would not know how wide a table may be.
    told = {"PYTHONUNBUFFERED": "1", "COLUMNS": str(shutil.get_terminal_size((120, 24)).columns)}
    started, last = time.perf_counter(), ""
    with subprocess.Popen(
        command, cwd=_ROOT, env=os.environ | told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    seconds = time.perf_counter() - started
    if process.returncode == 0:
        return Outcome("ran", seconds)
    how = "not run" if process.returncode == os.EX_UNAVAILABLE else "failed"
    return Outcome(how, seconds, last or f"exit status {process.returncode}")


if __name__ == "__main__":
    sys.exit(main())
