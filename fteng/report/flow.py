"""From the images that were found to those that were tested on, n at each step, as a drawing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from fteng.report import view, words

Summary = Mapping[str, Any]
_LINE, _PAD, _GAP = 18, 12, 26
# Reasons and classes that are named one by one.
_NAMED = 4
# Of the widest sans-serif, at 13 px: what is cut does not run out of its box.
_CHARACTER = 7.2


class _Box(NamedTuple):
    title: str
    lines: tuple[str, ...]

    @property
    def height(self) -> int:
        return 2 * _PAD + _LINE * (1 + len(self.lines))


def draw(summary: Summary) -> list[Markup]:
    """The diagram for a wide screen and for a narrow one."""
    boxes = _found(summary), _left_out(summary), _used(summary), _splits(summary)
    return [_wide(*boxes), _narrow(*boxes)]


def reasons(summary: Summary) -> list[tuple[str, int]]:
    """Why images were left out, most frequent first."""
    found = Counter(row.get("kind") or row["reason"] for row in view.images_left_out(summary["dataset"]))
    for reason, images in view.excluded(summary["dataset"]):
        # The key of the config in brackets is for the section on data.
        found[reason.partition(" (")[0]] += images
    rows = found.most_common()
    rest = sum(count for _, count in rows[_NAMED:])
    return rows[:_NAMED] + ([("other reasons", rest)] if rest else [])


def sentence(summary: Summary) -> str:
    """The diagram for who does not see it."""
    found, out, used, splits = _found(summary), _left_out(summary), _used(summary), _splits(summary)
    parts = [": ".join((box.title, ", ".join(box.lines))) if box.lines else box.title for box in (found, out, used, *splits) if box]
    return "Data flow. " + "; ".join(parts)


def _images(summary: Summary, split: str) -> int:
    return sum(summary["dataset"]["counts"].get(split, {}).values())


def _found(summary: Summary) -> _Box:
    dataset = summary["dataset"]
    total = sum(_images(summary, split) for split in dataset["counts"]) + _out(summary)
    limit = summary["run"]["config"].get("data", {}).get("limit", 0)
    # A table counts images as well whose files are not there.
    found = "listed" if view.excluded(dataset) else "found"
    return _Box(f"{words.number(total, 'image')} {found}", (f"data.limit={limit} drawn from what there was",) if limit else ())


def _left_out(summary: Summary) -> _Box | None:
    rows = reasons(summary)
    if not rows:
        return None
    return _Box(f"{words.number(_out(summary), 'image')} left out", tuple(f"{n:,} {why}" for why, n in rows))


def _out(summary: Summary) -> int:
    dataset = summary["dataset"]
    return len(view.images_left_out(dataset)) + sum(images for _, images in view.excluded(dataset))


def _used(summary: Summary) -> _Box:
    dataset = summary["dataset"]
    total = sum(_images(summary, split) for split in dataset["counts"])
    groups = sum(dataset["groups"].values()) or None
    alone = groups == total
    lines = ("each image its own group",) if alone else (f"in {words.number(groups, 'group')}, kept whole",) if groups else ()
    return _Box(f"{words.number(total, 'image')} used", lines)


def _splits(summary: Summary) -> list[_Box]:
    dataset, titles = summary["dataset"], {"train": "Training", "val": "Validation", "test": "Test"}
    why = {"train": "weights are fitted", "val": "depth and rate are chosen", "test": "takes part in no choice"}
    boxes = []
    for split, counts in dataset["counts"].items():
        total, groups = sum(counts.values()), dataset["groups"].get(split)
        lines = [] if groups in (None, total) else [f"in {words.number(groups, 'group')}"]
        ordered = [(name, counts.get(name, 0)) for name in dataset["classes"]]
        lines += [f"{n:,} {name}" for name, n in ordered[:_NAMED]] if len(ordered) <= _NAMED else [f"{len(ordered)} classes"]
        boxes.append(_Box(f"{titles.get(split, split)}: {words.number(total, 'image')}", (*lines, why.get(split, ""))))
    return boxes


def _wide(found: _Box, out: _Box | None, used: _Box, splits: Sequence[_Box]) -> Markup:
    width, middle = 860, 250
    one = (width - 20 * (len(splits) - 1)) // max(len(splits), 1)
    parts, y = [_box(found, 0, 0, 2 * middle)], found.height
    if out is not None:
        step = max(_GAP, out.height + 12)
        parts += [_arrow(middle, y, middle, y + step), _arrow(middle, y + step // 2, 2 * middle, y + step // 2)]
        parts.append(_box(out, 2 * middle, y + (step - out.height) // 2, width - 2 * middle))
        y += step
    else:
        parts.append(_arrow(middle, y, middle, y + _GAP))
        y += _GAP
    parts.append(_box(used, 0, y, 2 * middle))
    y += used.height
    bar = y + _GAP // 2
    parts.append(f'<path d="M{middle} {y}V{bar}M{one // 2} {bar}H{(len(splits) - 1) * (one + 20) + one // 2}" class="wire"/>')
    for index, split in enumerate(splits):
        x = index * (one + 20)
        parts += [_arrow(x + one // 2, bar, x + one // 2, y + _GAP), _box(split, x, y + _GAP, one)]
    height = y + _GAP + max((split.height for split in splits), default=0)
    return _svg("".join(parts), width, height, "wide", found, out, used, splits)


def _narrow(found: _Box, out: _Box | None, used: _Box, splits: Sequence[_Box]) -> Markup:
    width, parts, y = 320, [], 0
    for box in (found, out, used):
        if box is None:
            continue
        inset = 40 if box is out else 0
        parts.append(_box(box, inset, y, width - inset))
        y += box.height
        if box is found and out is not None:
            # Past what is left out, to what is used.
            parts += [
                _arrow(20, y, 20, y + 2 * 14 + out.height),
                _arrow(20, y + 14 + out.height // 2, 40, y + 14 + out.height // 2),
            ]
            y += 14
        elif box is out:
            y += 14
        elif box is found:
            parts.append(_arrow(20, y, 20, y + _GAP))
            y += _GAP
    for split in splits:
        # The wire starts where the box before ends, or runs past the splits above.
        parts.append(_arrow(8, y + 14 + split.height // 2, 24, y + 14 + split.height // 2))
        parts.append(f'<path d="M8 {y}V{y + 14 + split.height // 2}" class="wire"/>')
        parts.append(_box(split, 24, y + 14, width - 24))
        if split is not splits[-1]:
            parts.append(f'<path d="M8 {y + 14 + split.height // 2}V{y + 14 + split.height}" class="wire"/>')
        y += 14 + split.height
    return _svg("".join(parts), width, y, "narrow", found, out, used, splits)


def _svg(
    inside: str, width: int, height: int, css_class: str, found: _Box, out: _Box | None, used: _Box, splits: Sequence[_Box]
) -> Markup:
    steps = "; ".join(box.title for box in (found, out, used, *splits) if box is not None)
    # Numbers, fixed words and escaped names alone.
    return Markup(
        f'<svg viewBox="-2 -2 {width + 4} {height + 4}" role="img" aria-label="Data flow: {escape(steps)}" class="{css_class} flow"'
        f' style="max-width:{width + 4}px" font-size="13">{inside}</svg>'
    )


def _box(box: _Box, x: int, y: int, width: int) -> str:
    room = int((width - 2 * _PAD) / _CHARACTER)
    lines = [f'<text x="{x + _PAD}" y="{y + _PAD + 13}" class="head">{_cut(box.title, room)}</text>']
    lines += [
        f'<text x="{x + _PAD}" y="{y + _PAD + 13 + _LINE * index}">{_cut(line, room)}</text>'
        for index, line in enumerate(box.lines, 1)
    ]
    return f'<rect x="{x}" y="{y}" width="{width}" height="{box.height}" rx="6"/>' + "".join(lines)


def _cut(text: str, room: int) -> Markup:
    return escape(text if len(text) <= room else text[: room - 1] + "…")


def _arrow(x: int, y: int, to_x: int, to_y: int) -> str:
    head = (
        f"M{to_x - 4} {to_y - 6}L{to_x} {to_y}L{to_x + 4} {to_y - 6}"
        if x == to_x
        else f"M{to_x - 6} {to_y - 4}L{to_x} {to_y}L{to_x - 6} {to_y + 4}"
    )
    return f'<path d="M{x} {y}L{to_x} {to_y}{head}" class="wire"/>'
