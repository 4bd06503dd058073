"""The page as text: it is whole, it is one file, nothing in it is markup that came from data."""

import json
import re
from pathlib import Path

from fteng import report
from tests.report.hostile_fixture import make_hostile
from tests.report.page_reader import ALWAYS, SECTIONS, Page
from tests.report.report_fixture import CHOSEN, JUDGED, METRICS, make_summary, make_unfinished, make_without_curves


def test_has_every_section_once_and_in_order(parsed: Page) -> None:
    assert [name for name in parsed.ids() if name in SECTIONS] == list(SECTIONS)
    assert len(parsed.ids()) == len(set(parsed.ids()))
    linked = [attrs["href"] or "" for tag, attrs in parsed.tags if tag == "a" and "download" not in attrs]
    assert set(linked) == {f"#{name}" for name in SECTIONS}


def test_is_well_formed(parsed: Page) -> None:
    assert parsed.wrong == []
    assert parsed.open == []
    headings = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch("h[1-6]", tag)]
    # An answer, seventeen sections, of the mistakes the pictures, and of the subgroups two tables.
    assert headings == [1, 2, 2, 2, 2, 2, 3, 2, 3, 3, *[2] * 11]


def test_no_request_can_leave_it(page: str, parsed: Page) -> None:
    for tag, attrs in parsed.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "use", "image")
        for name, value in attrs.items():
            assert name not in ("srcset", "action", "ping", "background", "poster")
            assert not name.startswith("on")
            assert name != "href" or (value or "").startswith("data:text/csv" if "download" in attrs else "#")
            assert name != "src" or (tag == "img" and (value or "").startswith("data:image/"))
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page.replace("// ", ""))
    policy = next(attrs["content"] for _, attrs in parsed.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert (policy or "").startswith("default-src 'none'")


def test_tables_and_figures_speak(parsed: Page) -> None:
    tags = [tag for tag, _ in parsed.tags]
    assert all(attrs.get("scope") in ("row", "col", "rowgroup") for tag, attrs in parsed.tags if tag == "th")
    assert tags.count("caption") == tags.count("table") == 27
    drawn = [attrs for tag, attrs in parsed.tags if tag == "svg" and "aria-hidden" not in attrs]
    # Per metric two depth curves and the probes; once two profiles, two costs, the differences, two of calibration.
    # Of the curves a pair for each class and their mean, of the changes two, and the flow of data for two widths.
    assert len(drawn) == 3 * len(METRICS) + 7 + 8 + 2 + 2
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in drawn)
    assert tags.count("figcaption") == tags.count("figure") == 12


def test_names_from_the_data_are_text() -> None:
    page = report.render(make_hostile())
    hostile = Page(page)
    assert [tag for tag, _ in hostile.tags].count("script") == 1
    assert hostile.wrong == []
    assert "alert(" not in "".join(re.findall(r"<script>.*?</script>", page, re.S))
    # Once in every place that shows a name: it was not dropped, and not worked out as a template.
    assert hostile.text.count("{{ 7*191 }}") > 100
    assert "1337" not in hostile.text


def test_names_no_xml_may_hold() -> None:
    summary = make_summary(depths=(0, 18), rates=(1e-3,), seeds=(0,), metrics=JUDGED)
    names = ["a\x00b", "\ud800", "\x1b[31m", "\uffff", "name\udcff.jpg", "\x7f"]
    for index, name in enumerate(names, start=4):
        summary["stages"][index] = summary["probes"][index]["tap"] = summary["profile"][index]["stage"] = name
        summary["dataset"]["left_out"].append({"id": name, "reason": name})
    page = report.render(summary)
    assert "a\ufffdb" in page
    assert "name\ufffd.jpg" in page
    assert not re.search("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff\uffff]", page)


def test_a_summary_of_an_older_version_lacks_only_its_sections() -> None:
    summary = make_without_curves()
    for name in (*CHOSEN, "confusion", "explained"):
        del summary[name]
    for name in ("notes", "groups_of_class"):
        del summary["dataset"][name]
    shown = Page(report.render(summary))
    assert [name for name in shown.ids() if name in SECTIONS] == list(ALWAYS)
    assert {attrs["href"] for tag, attrs in shown.tags if tag == "a" and "download" not in attrs} == {f"#{name}" for name in ALWAYS}
    assert "nominal 450 180 270 900" in shown.text
    assert "about the data that a reader should know" not in shown.text


def test_three_hundred_trials_stay_small() -> None:
    summary = make_summary(depths=(0, 4, 8, 12, 16, 18), rates=(1e-3, 3e-4), seeds=range(25))
    assert len(summary["trials"]) == 300
    assert len(report.render(summary).encode()) < 1_250_000


def test_same_summary_same_page() -> None:
    summary = make_summary(metrics=JUDGED)
    assert report.render(json.loads(json.dumps(summary))) == report.render(summary)


def test_write_replaces_page_and_numbers_and_leaves_nothing_beside_them(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("old")
    summary = make_unfinished()
    written = report.write(tmp_path / "report", summary)
    assert written.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert json.loads((tmp_path / "report" / "summary.json").read_text(encoding="utf-8")) == json.loads(json.dumps(summary))
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["index.html", "summary.json"]
