"""How large the pages are and how long a browser takes to open them: one study of 1,000 trials, and 20 studies on one page.

    python -m benchmarks.page [--quick]

Both pages are of made-up studies shaped like real ones (tests/report), so that nothing has to be trained: 18 stages, 6 depths;
84 seeds x 2 rates for the first, 20 studies of 48 trials each for the second. Each is opened in a fresh context of headless
Chromium, from disk, in turn. Opened is: the load event, then two frames drawn. A row's seconds are the median over
openings; goals: 5 MB and 2 s. Quick: 3 openings instead of 15, no record.
"""

import argparse
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.record import write_record
from fteng import paths, report
from fteng.report import compare, compare_studies
from tests.report.compare_fixture import make_studies
from tests.report.report_fixture import make_summary

_GOAL_BYTES, _GOAL_SECONDS = 5_000_000, 2.0
_DRAWN = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() / 1000))))"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 openings instead of 15, no record")
    quick = parser.parse_args().quick
    openings = 3 if quick else 15
    chromium = shutil.which("chromium")
    if chromium is None or importlib.util.find_spec("playwright") is None:
        print("benchmarks.page needs chromium (.ci/browser installs it) and playwright (make setup does)", file=sys.stderr)
        return os.EX_UNAVAILABLE
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        pages = {"one study, 1,008 trials": _one(Path(folder)), "20 studies, 960 trials": _many(Path(folder))}
        browser = driver.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        seconds: dict[str, list[float]] = {name: [] for name in pages}
        for _ in range(openings):
            for name, page in pages.items():
                seconds[name].append(_open(browser, page))
        rows = [_row(name, page, seconds[name], browser.version) for name, page in pages.items()]
        browser.close()
    table = Table("page", "MB", "seconds to open", "goals")
    for row in rows:
        met = row["bytes"] < _GOAL_BYTES and row["seconds"] < _GOAL_SECONDS
        span = f"{row['seconds']:.2f} [{row['fastest']:.2f}, {row['slowest']:.2f}]"
        table.add_row(row["page"], f"{row['bytes'] / 1e6:.2f}", span, "met" if met else "missed")
    Console().print(table)
    if not quick:
        print(f"record: {write_record('page', rows)}")
    return 0


def _one(folder: Path) -> Path:
    return report.write(folder / "one", make_summary(seeds=range(84)))


def _many(folder: Path) -> Path:
    page = folder / "many" / "index.html"
    paths.write_text(page, compare.render(compare_studies.compare(make_studies(20, trials=50)), "python -m fteng.report"))
    return page


def _open(browser: Any, page: Path) -> float:
    """Seconds from the start of the navigation until the page is loaded and drawn."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        tab = context.new_page()
        tab.goto(page.as_uri())
        return float(tab.evaluate(_DRAWN))


def _row(name: str, page: Path, seconds: list[float], browser: str) -> dict[str, Any]:
    first, median, third = (float(value) for value in np.quantile(seconds, [0.25, 0.5, 0.75]))
    return {
        "page": name,
        "browser": f"Chromium {browser}, headless, without GPU",
        "bytes": page.stat().st_size,
        "n": len(seconds),
        "seconds": median,
        "fastest": min(seconds),
        "slowest": max(seconds),
        "spread": third - first,
    }


if __name__ == "__main__":
    sys.exit(main())
