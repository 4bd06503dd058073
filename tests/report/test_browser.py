"""The page in a real browser: it asks for nothing, the console is silent, nothing is pushed aside, every figure is drawn."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fteng import report
from tests.report.hostile_fixture import make_hostile
from tests.report.report_fixture import explain, make_summary

playwright = pytest.importorskip("playwright.sync_api", reason="the Python package playwright is not installed")
pytestmark = pytest.mark.slow

WIDTHS = (360, 1280, 1920)
# What can be seen of a figure: its width, its height and how many marks it has; figures of a metric not chosen are not shown.
_FIGURES = """() => [...document.querySelectorAll("figure")].map(figure => [...figure.querySelectorAll("svg[role=img]")]
  .filter(svg => svg.checkVisibility())
  .map(svg => ({width: svg.getBoundingClientRect().width, height: svg.getBoundingClientRect().height,
                marks: svg.querySelectorAll("[data-tip]").length, name: svg.getAttribute("aria-label")})))"""
_SIZES = """() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"""
# WCAG 2.2: (lighter + 0.05) / (darker + 0.05) of the relative luminances.
_CONTRAST = """() => {
  const style = getComputedStyle(document.body);
  const light = text => {
    const [r, g, b] = text.match(/[0-9.]+/g).slice(0, 3)
      .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return [light(style.color), light(style.backgroundColor)];
}"""


class Seen(NamedTuple):
    """A page that is open, and what it did so far."""

    page: Any
    requests: list[str]
    said: list[str]


@pytest.fixture(scope="module", params=["made-up study", "hostile names"])
def page_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made_up = request.param == "made-up study"
    summary = explain(make_summary(metrics=("balanced_accuracy", "log_loss"))) if made_up else make_hostile()
    return report.write(tmp_path_factory.mktemp("report"), summary)


@pytest.fixture
def seen(browser: Any, page_file: Path, request: pytest.FixtureRequest) -> Iterator[Seen]:
    width, scheme = request.param
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:
        page = context.new_page()
        found = Seen(page, [], [])
        page.on("request", lambda asked: found.requests.append(asked.url))
        page.on("console", lambda message: found.said.append(message.text))
        page.on("pageerror", lambda error: found.said.append(str(error)))
        page.on("dialog", lambda dialog: found.said.append(dialog.message))
        page.goto(page_file.as_uri())
        yield found


@pytest.mark.parametrize("seen", [(width, scheme) for width in WIDTHS for scheme in ("light", "dark")], indirect=True)
def test_page_is_whole(seen: Seen, page_file: Path, request: pytest.FixtureRequest) -> None:
    scheme = request.node.callspec.params["seen"][1]
    page = seen.page
    page.evaluate("() => document.querySelectorAll('details').forEach(part => part.open = true)")
    content, window = page.evaluate(_SIZES)
    assert content <= window
    chosen = page.locator("#answer .chooser input")
    for index in range(max(1, chosen.count())):
        if chosen.count():
            chosen.nth(index).check()
        drawn = page.evaluate(_FIGURES)
        # The depth curve, the curves of the mean and (not chosen) of each class, calibration, the probes, the profile, the changes,
        # the costs, the differences, the flow of data.
        assert [len(figure) for figure in drawn] == [1, 2, 0, 0, 0, 2, 1, 2, 2, 2, 1, 1]
        for svg in (svg for figure in drawn for svg in figure):
            assert svg["width"] > 200, svg
            assert svg["height"] > 60, svg
            assert svg["marks"] or svg["name"].startswith("Data flow"), svg
    ink, paper = page.evaluate(_CONTRAST)
    assert (paper > ink) == (scheme == "light")
    assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) > 7
    assert seen.requests == [page_file.as_uri()]
    assert seen.said == []


@pytest.mark.parametrize("seen", [(1280, "light")], indirect=True)
def test_page_answers(seen: Seen, page_file: Path) -> None:
    page = seen.page
    seeds = "() => [...document.querySelectorAll('.sortable tbody tr')].map(row => row.querySelector('th').dataset.k)"
    planned = page.evaluate(seeds)
    page.locator(".sortable thead button").first.click()
    assert page.evaluate(seeds) == sorted(planned, key=int)
    page.locator(".sortable thead button").first.click()
    assert page.evaluate(seeds) == sorted(planned, key=int, reverse=True)
    page.locator("#calibration [data-tip]").first.hover()
    assert page.locator("#tip").inner_text().startswith("36 images: forecast 0.4")
    page.locator("#c2").check()
    assert page.locator("#curves svg").first.is_hidden()
    assert page.locator("#curves .c2 svg").first.is_visible()
    page.locator("#curves .c2 summary").click()
    with page.expect_download() as saved:
        page.locator("#curves .c2 a").click()
    assert saved.value.path().read_text(encoding="utf-8").splitlines()[0] == "curve,at,value,low,high"
    evidence = page.locator("#mistakes .seen .answer").first
    assert evidence.is_visible()
    page.locator("#show-answer").uncheck()
    assert evidence.is_hidden()
    page.locator("#show-truth").check()
    assert page.locator("#mistakes .seen .truth").is_visible()
    page.locator("#methods .csv").first.click()
    playwright.expect(page.locator("#methods .csv").first).to_have_text(re.compile("^(Copied|Selected: press Ctrl\\+C)$"))
    assert page.evaluate("() => getSelection().toString()").startswith("We used 1,799 images in 1,200 groups")
    with page.expect_download() as saved:
        page.locator("#data .csv").first.click()
    rows = saved.value.path().read_text(encoding="utf-8").splitlines()
    assert rows[0] == '"Class","train","val","test","all"'
    assert rows[1].endswith('"450 in 300 groups","180 in 120 groups","270 in 180 groups","900"')
    assert all(url.startswith(("blob:", page_file.as_uri())) for url in seen.requests)
    assert seen.said == []
