"""A browser for the tests that open a page."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_INSTALL = Path(__file__).parents[2] / ".ci" / "browser"


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
