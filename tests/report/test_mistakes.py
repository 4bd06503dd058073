"""Where the recommended plan goes wrong: the mistakes with their pictures or why there are none, the classes it confuses."""

from fteng import report
from tests.report.page_reader import Page
from tests.report.report_fixture import make_without_curves


def test_mistakes_are_shown_with_where_it_looked(page: str, parsed: Page) -> None:
    said = parsed.text.partition("Mistakes: where it fails")[2].partition("Subgroups")[0]
    assert "71 of 539 test images (13.2 %) are answered wrong by the first seed." in said
    assert "nominal 240 20 10 88.9 %" in said
    assert "at conv_head, which has 8 × 8 places" in said
    assert "said nominal 0.990, is local local/roll_0000.jpg" in said
    pictures = [attrs for tag, attrs in parsed.tags if tag == "img"]
    # Six images with their evidence for the answer; for one of them there is evidence for the truth.
    assert len(pictures) == 13
    assert all("alt" in attrs for attrs in pictures)
    assert page.count('class="truth" src') == 1


def test_mistakes_without_pictures_say_why() -> None:
    summary = make_without_curves()
    shown = Page(report.render(summary))
    assert "No pictures: the networks were not looked at." in shown.text
    assert [tag for tag, _ in shown.tags].count("img") == 0
    assert "local/roll_0000.jpg roll 0 local nominal 0.990 0.004" in shown.text
    summary["explained"] = {"saliency": None, "changes": {"images": 128, "trials": []}, "reason": ""}
    assert "No pictures: judge.pictures keeps them out" in Page(report.render(summary)).text
    summary["mistakes"] = {"count": 0, "images": 539, "rows": []}
    shown = Page(report.render(summary)).text
    assert "None of 539 test images is answered wrong by the first seed." in shown
    assert "The most confident mistakes" not in shown


def test_many_classes_are_confused_in_pairs() -> None:
    summary = make_without_curves()
    names = [f"c{index}" for index in range(30)]
    counts = [[9 if row == column else 0 for column in range(30)] for row in range(30)]
    counts[4][7], counts[2][1] = 5, 1
    summary |= {"confusion": counts, "dataset": summary["dataset"] | {"classes": names}}
    shown = Page(report.render(summary)).text
    assert "True class Answer Images Of c4 c7 5 14 c2 c1 1 10" in shown
