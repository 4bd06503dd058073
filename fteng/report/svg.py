"""A chart of vl-convert made fit for a page: it scales, its colours come from the style sheet, every mark has a hover text."""

import re
from xml.etree import ElementTree

from markupsafe import Markup

_SPACE = "{http://www.w3.org/2000/svg}"
_DROPPED = ("font-family", "pointer-events", "stroke-miterlimit", "role", "aria-roledescription", "aria-label", "aria-hidden")
_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_MARKS = re.compile(r"\brole-mark (\w+)_marks\b")


def inline(svg: str, label: str, css_class: str = "") -> Markup:
    """The drawing as an inline `<svg role="img">` called `label`; its natural width is the most it grows to.

    A mark's description becomes its `<title>`. Names that came from data are escaped by the serialiser. No namespace
    declaration is left, since HTML needs none. A layer called `trials` keeps the class `trials`, all other classes go.
    """
    root = ElementTree.fromstring(svg)
    width, height = root.get("width", ""), root.get("height", "")
    _tidy(root)
    root.attrib.clear()
    root.attrib.update({"viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": label, "style": f"max-width:{width}px"})
    if css_class:
        root.set("class", css_class)
    return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=True))


def _tidy(element: ElementTree.Element) -> None:
    """In place and recursively: drop what draws nothing, keep what a reader hovers over."""
    for child in list(element):
        if child.get("display") == "none" or (child.get("class") == "background" and not child.get("stroke")):
            element.remove(child)
            continue
        spoken = child.get("role") == "graphics-symbol" and child.get("aria-roledescription") not in ("axis", "title", None)
        title = child.get("aria-label") if spoken else None
        _tidy(child)
        if title is not None:
            hover = ElementTree.Element("title")
            hover.text = title
            child.insert(0, hover)
    element.tag = element.tag.removeprefix(_SPACE)
    for name in _DROPPED:
        element.attrib.pop(name, None)
    layer = _MARKS.search(element.attrib.pop("class", ""))
    if layer:
        element.set("class", layer.group(1))
    for name in ("transform", "d", "x2", "y2"):
        if name in element.attrib:
            element.set(name, _NUMBER.sub(lambda found: f"{float(found.group()):.1f}", element.attrib[name]))
    for name in ("opacity", "stroke-width"):
        if element.get(name) == "1":
            del element.attrib[name]
