"""`python -m fteng.report` of one study: what it writes, and what it says when it cannot."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import fteng
from fteng.report.__main__ import main
from tests.report.report_fixture import make_unfinished


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fteng.report", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_help_teaches_and_needs_no_network_library() -> None:
    done = _command("--help")
    assert done.returncode == 0
    assert "WORKDIR/report/index.html" in done.stdout
    assert "example" in done.stdout
    code = "import sys, fteng.report.__main__; print([name for name in ('jax', 'altair', 'vl_convert') if name in sys.modules])"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"


def test_command_writes_numbers_and_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = make_unfinished()
    monkeypatch.setattr(
        fteng, "summary", SimpleNamespace(collect=lambda workdir: summary | {"experiment": str(workdir)}), raising=False
    )
    (tmp_path / "study.json").write_text("{}")
    assert main([str(tmp_path)]) == 0
    page = tmp_path / "report" / "index.html"
    assert capsys.readouterr().out == f"{page}\n"
    assert str(tmp_path) in page.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "report" / "summary.json").read_text())["experiment"] == str(tmp_path)


def test_a_page_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fteng, "summary", SimpleNamespace(collect=lambda _: make_unfinished()), raising=False)
    for name in ("study.json", "report"):
        (tmp_path / name).write_text("{}")
    assert main([str(tmp_path)]) == 2
    assert re.fullmatch(r"fteng: cannot write the page to .*report \(File exists\).*\n", capsys.readouterr().err)


def test_no_study_is_one_line(tmp_path: Path) -> None:
    done = _command(str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"fteng: no study in {tmp_path / 'nowhere'}: study.json is missing; give the --workdir of a run of python -m fteng.main"
    ]
