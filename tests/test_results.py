"""docs/results.md is what the records render to, and `benchmarks.all` knows every benchmark there is."""

import ast
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import all as every
from benchmarks import plots, results
from benchmarks.sections import SECTIONS

ROOT = Path(__file__).parent.parent


def record(rows: list[dict[str, Any]], name: str = "new") -> dict[str, Any]:
    hardware = {"cpu": "Abacus, 2 cores", "memory_gib": 1.5, "load_per_core": 0.1}
    of = {"benchmark": name, "date": "2026-01-02T03:04:05+00:00", "hardware": hardware, "versions": {"python": "3.11.1"}}
    return {**of, "revision": "abc+", "rows": rows}


def rendered(rows: list[dict[str, Any]], name: str = "new") -> list[str]:
    return results.render([record(rows, name)], {name: f"python -m benchmarks.{name}"}).splitlines()


def calls(tree: ast.AST) -> list[ast.Call]:
    """Of write_record."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in found if isinstance(call.func, ast.Name) and call.func.id == "write_record"]


TREES = {path.stem: ast.parse(path.read_text()) for path in sorted((ROOT / "benchmarks").glob("*.py"))}
WRITERS = [name for name, tree in TREES.items() if calls(tree)]


def test_the_page_is_of_the_records() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert page == every.page(ROOT / "benchmarks" / "records"), "python -m benchmarks.all --render makes it anew"


def test_what_pages_quote_is_of_the_records() -> None:
    files, records = every.quoting(), every.read_records(ROOT / "benchmarks" / "records")
    assert ROOT / "README.md" in files
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert text == results.quoted(text, records), f"{file}: python -m benchmarks.all --render makes it anew"


def test_a_quoted_table_is_made_anew_and_one_that_is_not_there_is_refused() -> None:
    page = "before\n<!-- table new: -->\nold\n<!-- end -->\nafter\n"
    rows = [{"what": "a", "ms": 1.5}, {"what": "b", "ms": 2.5}]
    again = results.quoted(page, [record(rows)])
    assert again.startswith("before\n<!-- table new: -->\n\n| what | ms |")
    assert again.endswith("| b | 2.5 |\n\n<!-- end -->\nafter\n")
    assert results.quoted(again, [record(rows)]) == again
    with pytest.raises(ValueError, match="no record has a table new: Speed"):
        results.quoted(page.replace("new:", "new: Speed"), [record(rows)])


def test_every_benchmark_is_known() -> None:
    assert sorted(benchmark.name for benchmark in every.BENCHMARKS) == WRITERS


@pytest.mark.parametrize("name", WRITERS)
def test_every_benchmark_has_an_entry_and_a_quick_mode_that_replaces_no_record(name: str) -> None:
    assert name in SECTIONS
    nodes = list(ast.walk(TREES[name]))
    # Those over the collection share its options.
    shared = any(isinstance(node, ast.ImportFrom) and "options" in [of.name for of in node.names] for node in nodes)
    told = [*nodes, *ast.walk(TREES["collection"])] if shared else nodes
    assert any(isinstance(node, ast.Constant) and node.value == "--quick" for node in told)
    choices = [node for node in nodes if isinstance(node, ast.If | ast.IfExp) and "quick" in ast.unparse(node.test)]
    for call in calls(TREES[name]):
        # Either the quick run does not come here, or it gives its record another name.
        assert any(call in ast.walk(choice) or choice in ast.walk(call) for choice in choices)


def test_a_new_record_is_shown_with_all_its_columns() -> None:
    rows = [
        {"what": "a|b", "n": 3, "ms": {"median": 2.0, "min": 1.0, "max": 1234.7}, "ratio": {"torch": 0.123456}, "shape": [2, 3]},
        {"what": "c", "n": 3, "ms": {"median": 4.0, "min": 4.0, "max": 4.0}, "ratio": {"torch": None}, "shape": [2, 4]},
        {"alone": [0.5, 0.25, 0.75]},
    ]
    lines = rendered(rows)
    assert "| what | ms | ratio.torch | shape |" in lines
    assert "| a\\|b | 2 [1, 1,235] | 0.123 | 2 x 3 |" in lines
    assert "| c | 4 | – | 2 x 4 |" in lines
    assert "In every row: n 3." in lines
    assert "| alone | 0.5 [0.25, 0.75] |" in lines
    assert "    python -m benchmarks.new" in lines
    assert "2026-01-02 03:04 UTC, revision abc with uncommitted changes. Abacus, 2 cores, 1.5 GiB;" in lines
    assert "load 0.1 a core. python 3.11.1." in lines


def test_rows_bring_their_goals() -> None:
    rows = [{"what": what, "value": 5.0, "goal": goal} for what, goal in (("a", "< 5"), ("b", ">= 5"), ("c", "near 0"), ("d", ""))]
    lines = rendered(rows)
    assert "| a | < 5 | **missed** |" in lines
    assert "| b | >= 5 | hit |" in lines
    assert "| c | near 0 | no bound |" in lines
    assert "| d |  |  |" in lines
    assert "| [new](#new) | 2026-01-02 | 1 | 1 | 1 |" in lines


def test_a_goal_of_an_entry_is_about_what_is_shown() -> None:
    row = {"page": "one", "bytes": 4_999_999, "seconds": 2.0, "fastest": 1.0, "slowest": 3.0, "n": 15, "browser": "x"}
    lines = rendered([row, {**row, "page": "two", "bytes": 5_000_001}], "page")
    assert "| one | MB | 5.00 | < 5 | hit |" in lines
    assert "| two | MB | 5.00 | < 5 | **missed** |" in lines
    assert "| one | seconds to open | 2 [1, 3] | < 2 | **missed** |" in lines


def test_a_network_that_was_not_timed_hits_nothing_and_other_work_is_said() -> None:
    seen = {
        "network": "b",
        "goal": 0.8,
        "milliseconds": {"fteng": {"median": 2.0, "min": 1.0, "max": 3.0}},
        "load_per_core_before": 0.5,
    }
    timed = {**seen, "network": "a", "times": {"torch compile": {"median": 0.9, "min": 0.7, "max": 1.0}}}
    lines = rendered([timed, {**seen, "failed": {"torch compile": "no compiler"}}], "backbones")
    assert "| a | 0.9 [0.7, 1] | – | >= 0.8 | hit |" in lines
    assert "| b | – | no compiler | >= 0.8 | not measured |" in lines
    assert any(line.startswith("**Other work ran beside this**: 0.5 ") for line in lines)


def test_what_was_never_recorded_is_named() -> None:
    text = results.render([], {"feed": "", "page": ""})
    assert "Never recorded in full: feed, page." in text


def test_a_picture_is_drawn_of_its_record() -> None:
    rows = [{"grows": "images", "value": value, "probes": 2.0, "trials": float(value)} for value in (1, 4, 16)]
    drawn = plots.svg("growth", [*rows, {"slope_of": "trials", "over": "images", "slope": 1.0}])
    assert drawn.startswith("<svg")
    for word in ("images", "seconds", "probes", "trials"):
        assert word in drawn
    assert "![growth](growth.svg)" in rendered([dict(row) for row in rows], "growth")


def test_quick_runs_are_no_records(tmp_path: Path) -> None:
    for name in ("feed", "feed-quick", "backbones-quick-resnet50"):
        (tmp_path / f"{name}.json").write_text(f'{{"benchmark": "{name}"}}')
    assert [found["benchmark"] for found in every.read_records(tmp_path)] == ["feed"]


@pytest.mark.parametrize(
    ("code", "how", "why"),
    [
        ("print('fine')", "ran", ""),
        (f"import sys; print('no torch', file=sys.stderr); sys.exit({os.EX_UNAVAILABLE})", "not run", "no torch"),
        ("raise ValueError('broken')", "failed", "ValueError: broken"),
        ("import os; os.kill(os.getpid(), 9)", "failed", "exit status -9"),
    ],
)
def test_how_a_benchmark_ended(code: str, how: str, why: str) -> None:
    outcome = every.run([sys.executable, "-c", code])
    assert (outcome.how, outcome.why) == (how, why)


@pytest.mark.parametrize(("hows", "status"), [(("ran", "not run"), 0), (("failed", "ran"), 1)])
def test_one_failure_is_the_exit_status(
    hows: tuple[str, ...],
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str]) -> every.Outcome:
        asked.append(command)
        return every.Outcome(hows[len(asked) - 1], 0.0, "fteng[bench]")

    monkeypatch.setattr(every, "run", run)
    monkeypatch.setattr(every, "BENCHMARKS", (every.Benchmark("feed"), every.Benchmark("sweep", ("--repeats=1",), torch=True)))
    monkeypatch.setattr(every, "_PAGE", tmp_path / "results.md")
    monkeypatch.setattr(sys, "argv", ["all", "--quick", "--torch-python=other"])
    assert every.main() == status
    assert [command[2:] for command in asked] == [
        ["benchmarks.feed", "--quick"],
        ["benchmarks.sweep", "--quick", "--torch-python=other"],
    ]
    assert capsys.readouterr().out.count("fteng[bench]") == 2
    assert (tmp_path / "results.md").exists()
