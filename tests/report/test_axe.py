"""The pages for people who do not use a mouse, do not see well, print, or run no scripts: in a real browser, with axe-core."""

from pathlib import Path
from typing import Any

import pytest

from fteng import paths, report
from fteng.report import compare, compare_studies
from tests.report.compare_fixture import make_evil_studies, make_studies
from tests.report.hostile_fixture import make_hostile
from tests.report.report_fixture import make_summary

axe = pytest.importorskip("axe_playwright_python", reason="the Python package axe-playwright-python is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="the Python package playwright is not installed")
pytestmark = pytest.mark.slow

# axe-core as that package carries it, which the lock pins.
_AXE = Path(axe.__file__).parent / "axe.min.js"
_RUN = """async () => (await axe.run()).violations
  .filter(found => ["serious", "critical"].includes(found.impact))
  .map(found => `${found.impact} ${found.id}: ${found.nodes.map(node => node.html.slice(0, 120)).join(" | ")}`)"""
# What a keyboard must reach: of radio buttons the chosen one, from which arrows go on.
_CONTROLS = """() => [...document.querySelectorAll(
    "a[href], button, input, select, textarea, summary, [tabindex]:not([tabindex='-1'])")]
  .filter(part => part.checkVisibility() && !part.disabled && !(part.type === "radio" && !part.checked))
  .map((part, index) => { part.dataset.control = index; return index; })"""
# Of each figure its width, height and what it has to say: marks with a hover text, words.
_FIGURES = """() => [...document.querySelectorAll("figure svg[role=img]")].filter(svg => svg.checkVisibility())
  .map(svg => [svg, svg.getBoundingClientRect()])
  .map(([svg, place]) => [place.width, place.height, svg.querySelectorAll("[data-tip], text").length])"""
_OPEN = "() => document.querySelectorAll('details').forEach(part => part.open = true)"
PAGES = ("one study", "hostile study", "four studies", "hostile studies", "eight studies")


@pytest.fixture(scope="module", params=PAGES)
def page_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    if "studies" not in request.param:
        return report.write(folder, make_hostile() if "hostile" in request.param else make_summary())
    made = {"four studies": lambda: make_studies(4), "eight studies": lambda: make_studies(8), "hostile studies": make_evil_studies}
    page = folder / "index.html"
    paths.write_text(page, compare.render(compare_studies.compare(made[request.param]()), "python -m fteng.report"))
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_axe_finds_nothing_serious(browser: Any, page_file: Path, scheme: str, width: int) -> None:
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:
        page = context.new_page()
        page.goto(page_file.as_uri())
        page.evaluate(_OPEN)
        page.evaluate(_AXE.read_text(encoding="utf-8"))
        assert page.evaluate(_RUN) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1920])
def test_page_is_whole_and_quiet(browser: Any, page_file: Path, scheme: str, width: int) -> None:
    requests, said = [], []
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:
        page = context.new_page()
        page.on("request", lambda asked: requests.append(asked.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.goto(page_file.as_uri())
        page.evaluate(_OPEN)
        content, window = page.evaluate("() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert content <= window
        drawn = page.evaluate(_FIGURES)
        assert len(drawn) >= 6
        assert [one for one in drawn if one[0] < 150 or one[1] < 60 or not one[2]] == []
        dark = page.evaluate("() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).every(v => v < 100)")
        assert dark == (scheme == "dark")
    assert requests == [page_file.as_uri()]
    assert said == []


def test_a_keyboard_reaches_every_control(browser: Any, page_file: Path) -> None:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.goto(page_file.as_uri())
        controls = set(page.evaluate(_CONTROLS))
        reached = set()
        for _ in range(len(controls) + 5):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("() => document.activeElement.dataset.control"))
        assert {str(control) for control in controls} - reached == set()


def test_it_prints(browser: Any, page_file: Path) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(page_file.as_uri())
        printed = page.pdf(format="A4")
        assert printed.startswith(b"%PDF")
        # A page of text and drawings, not an empty sheet.
        assert len(printed) > 30_000
        page.emulate_media(media="print")
        assert not page.locator("nav").is_visible()


def test_it_reads_without_scripts(browser: Any, page_file: Path) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(page_file.as_uri())
        assert page.locator("h1").is_visible()
        assert page.locator("figure svg[role=img]").first.is_visible()
        assert page.locator("table").first.is_visible()


def test_the_check_finds_a_fault(browser: Any) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.set_content("<html lang='en'><title>t</title><main><h1>t</h1><input><p style='color:#bbb'>pale</p></main></html>")
        page.evaluate(_AXE.read_text(encoding="utf-8"))
        found = page.evaluate(_RUN)
        assert sorted(line.split(":")[0] for line in found) == ["critical label", "serious color-contrast"]
