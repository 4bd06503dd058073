"""What a reader of the page finds in it: its sections, its text, its elements."""

from html.parser import HTMLParser

from tests.report.report_fixture import CHOSEN

SECTIONS = (
    "answer",
    "depth",
    "final",
    "curves",
    "calibration",
    "mistakes",
    "subgroups",
    "probes",
    "profile",
    "changes",
    "cost",
    "trials",
    "alternatives",
    "data",
    "audit",
    "methods",
    "reproduce",
    "limits",
)
ALWAYS = tuple(name for name in SECTIONS if name not in (*CHOSEN, "changes"))


class Page(HTMLParser):
    """Tags with their attributes in order, text outside style and script, and which tags were left open or closed twice."""

    VOID = ("meta", "input", "br", "img", "path", "line", "circle", "rect")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).replace("\u00a0", " ").split())

    def ids(self) -> list[str]:
        return [attrs["id"] or "" for _, attrs in self.tags if "id" in attrs]
