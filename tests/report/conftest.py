"""A page as text and as a reader finds it, and a browser for the tests that open one."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fteng import report
from fteng.report import drawings
from tests.report.page_reader import Page
from tests.report.report_fixture import explain, make_summary

_INSTALL = Path(__file__).parents[2] / ".ci" / "browser"


@pytest.fixture(scope="session")
def page() -> str:
    return report.render(explain(make_summary()))


@pytest.fixture(scope="session")
def parsed(page: str) -> Page:
    return Page(page)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of sentences: the figures are most of the time of a page."""
    monkeypatch.setattr(drawings, "draw", lambda _: drawings.Drawings([], [], [], [], [], None, []))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the Python package playwright is not installed")
    installed = subprocess.run([_INSTALL], capture_output=True, text=True, check=False, timeout=240)
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip(f"no browser: {(installed.stderr.strip().splitlines() or ['chromium is missing'])[-1]}")
    with playwright.sync_playwright() as driver:
        # Without a sandbox, since the tests may run as root in a container that allows none.
        opened = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"])
        yield opened
        opened.close()
