"""docs/results.md from the records of the benchmarks, and the tables of them that other pages quote: pure functions.

A page quotes a table between `<!-- table NAME: TITLE -->` and `<!-- end -->`: of the record NAME, the first whose title begins so.
A record needs no entry in `sections.py`: it is shown with all its columns, and so are rows that no table of its entry takes.
"""

import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.plots import PLOTS
from benchmarks.sections import SECTIONS, Column, Row, Section, Table, every

# Runnable processes a core before a benchmark began, from which its ratios are worth nothing; as in benchmarks.backbones.
_BUSY = 0.3
_BOUND = re.compile(r"(<=|<|>=|>|=) ?([0-9.]+)")
_QUOTE = re.compile(r"(?P<head><!-- table (?P<name>\w+):(?: (?P<title>[^\n]+?))? -->)\n.*?<!-- end -->", re.DOTALL)
_CENTRES, _LOWS, _HIGHS = ("median", "value"), ("min", "low"), ("max", "high")
_INTRODUCTION = """\
# Results

This page is made from `benchmarks/records/*.json` by `python -m benchmarks.all --render`: change those, not this; a test holds
it to them. Each record is of one run of one benchmark at the revision it names; what has changed since is not in it. A goal is
hit or missed by the middle value, whatever its range; one that names no bound is undecided. n is how often something was measured;
with n = 1 nothing is known of the spread. The load is that of the last minute before the record was written, the benchmark's own
included.
"""


class Spread(NamedTuple):
    """A figure that was measured several times, or has an interval."""

    middle: float
    low: float
    high: float


class _Shown(NamedTuple):
    """lines of Markdown; verdicts: of every goal in them."""

    lines: list[str]
    verdicts: list[str]


def render(records: Sequence[Row], commands: Mapping[str, str]) -> str:
    """The whole page. records: in the order in which they are shown; commands: by name, of every benchmark that there is."""
    shown = {record["benchmark"]: _section(record, commands.get(record["benchmark"], "")) for record in records}
    overview = [["benchmark", "date", "goals hit", "missed", "undecided"]]
    for record in records:
        name, verdicts = record["benchmark"], shown[record["benchmark"]].verdicts
        hit, missed = verdicts.count("hit"), verdicts.count("**missed**")
        overview.append([f"[{name}](#{name})", record["date"][:10], *_counts(hit, missed, len(verdicts) - hit - missed)])
    lines = [*_INTRODUCTION.splitlines(), "", *_markdown(overview)]
    without = [name for name in commands if name not in shown]
    if without:
        lines += ["", f"Never recorded in full: {', '.join(without)}."]
    for record in records:
        lines += ["", *shown[record["benchmark"]].lines]
    return "\n".join(lines) + "\n"


def quoted(page: str, records: Sequence[Row]) -> str:
    """The page with every table that it quotes as the records have it. Raises ValueError on one that there is not."""
    known = {record["benchmark"]: record for record in records}

    def anew(quote: re.Match[str]) -> str:
        name, title = quote["name"], quote["title"] or ""
        entry = SECTIONS.get(name, Section(""))
        found = _tables(entry, known[name]["rows"]) if name in known else []
        made = next((_table(table, taken) for table, taken in found if table.title.startswith(title)), None)
        if made is None:
            raise ValueError(f"no record has a table {name}: {title}")
        return "\n".join([quote["head"], "", *made.lines, "", "<!-- end -->"])

    return _QUOTE.sub(anew, page)


def _counts(*counts: int) -> list[str]:
    return [str(count) if count else "" for count in counts]


def _section(record: Row, command: str) -> _Shown:
    name, rows = record["benchmark"], record["rows"]
    entry = SECTIONS.get(name, Section(""))
    hardware = record["hardware"]
    versions = ", ".join(f"{library} {version}" for library, version in record["versions"].items())
    lines = [f"## {name}", ""]
    lines += [entry.what, ""] if entry.what else []
    lines += [f"    {command}", ""] if command else []
    revision = record["revision"].removesuffix("+") + (" with uncommitted changes" if record["revision"].endswith("+") else "")
    lines += [
        f"{record['date'][:16].replace('T', ' ')} UTC, revision {revision}. {hardware['cpu']}, {hardware['memory_gib']} GiB;",
        f"load {hardware['load_per_core']} a core. {versions}.",
        f"Record: [{name}.json](../benchmarks/records/{name}.json).",
    ]
    busy = max((row.get("load_per_core_before", 0.0) for row in rows), default=0.0)
    if busy > _BUSY:
        lines += ["", f"**Other work ran beside this**: {busy} runnable processes a core before it began. Do not quote its ratios."]
    lines += ["", f"![{name}]({name}.svg)"] if name in PLOTS else []
    verdicts = []
    for table, taken in _tables(entry, rows):
        made = _table(table, taken)
        lines += ["", *([f"**{table.title}**", ""] if table.title else []), *made.lines]
        verdicts += made.verdicts
    return _Shown(lines, verdicts)


def _tables(entry: Section, rows: Sequence[Row]) -> list[tuple[Table, list[Row]]]:
    """Every row in the first table that takes it, else in one of rows with the same keys, of which all are shown."""
    found: list[tuple[Table, list[Row]]] = [(table, []) for table in entry.tables]
    others: dict[frozenset[str], list[Row]] = {}
    for row in rows:
        taken = next((taken for table, taken in found if table.takes(row)), None)
        (others.setdefault(frozenset(row), []) if taken is None else taken).append(row)
    for alike in others.values():
        keys = dict.fromkeys(key for row in alike for key in _flat(row) if key != "goal")
        found.append((Table("", every, tuple(map(Column, keys))), alike))
    return [(table, taken) for table, taken in found if taken]


def _table(table: Table, rows: Sequence[Row]) -> _Shown:
    """A row a line; or a figure a line, where there is one row, or columns have goals."""
    flat = [_flat(row) for row in rows]
    columns = [column for column in table.columns if any(row.get(column.key) not in (None, "") for row in flat)]
    common = [column for column in columns if len(rows) > 1 and not column.goal and _constant(column, flat)]
    columns = [column for column in columns if column not in common]
    long = len(rows) == 1 or any(column.goal for column in columns)
    made = _long(table, columns, flat) if long else _wide(table, columns, flat)
    said = ", ".join(f"{column.head} {_text(_cell(column, flat[0]))}" for column in common)
    return _Shown([*made.lines, *(["", f"In every row: {said}."] if said else [])], made.verdicts)


def _wide(table: Table, columns: Sequence[Column], rows: Sequence[Row]) -> _Shown:
    goals = [_goal(row.get("goal")) for row in rows]
    cells = [[column.head for column in columns], *([_text(_cell(column, row)) for column in columns] for row in rows)]
    if not any(goals):
        return _Shown(_markdown(cells), [])
    verdicts = [verdict(row.get(table.judged), goal) for row, goal in zip(rows, goals, strict=True)]
    ends = [["goal", "verdict"], *(list(pair) for pair in zip(goals, verdicts, strict=True))]
    return _Shown(_markdown([[*row, *end] for row, end in zip(cells, ends, strict=True)]), [found for found in verdicts if found])


def _long(table: Table, columns: Sequence[Column], rows: Sequence[Row]) -> _Shown:
    """Several rows are told apart by the first column."""
    figures = columns if len(rows) == 1 else columns[1:]
    cells, verdicts = [], []
    for row in rows:
        of = [] if len(rows) == 1 else [_text(_cell(columns[0], row))]
        for column in figures:
            goal = _goal(row.get("goal")) if column.key == table.judged and row.get("goal") else column.goal
            verdicts.append(verdict(_cell(column, row), goal))
            cells.append([*of, column.head, _text(_cell(column, row)), goal, verdicts[-1]])
    head = ["figure", "measured", "goal", "verdict"]
    if not any(verdicts):
        cells, head = [row[:-2] for row in cells], head[:-2]
    first = [] if len(rows) == 1 else [columns[0].head]
    return _Shown(_markdown([[*first, *head], *cells]), [found for found in verdicts if found])


def verdict(value: Any, goal: str) -> str:
    """`hit` or `**missed**` by the middle value; `no bound` of a goal that names none; empty without a goal."""
    if not goal:
        return ""
    bound = _BOUND.fullmatch(goal)
    middle = value.middle if isinstance(value, Spread) else value
    if bound is None:
        return "no bound"
    if middle is None:
        return "not measured"
    limit = float(bound[2])
    held = {"<": middle < limit, "<=": middle <= limit, ">": middle > limit, ">=": middle >= limit, "=": middle == limit}
    return "hit" if held[bound[1]] else "**missed**"


def _goal(value: Any) -> str:
    """A row's goal as a text; a number is what should be reached."""
    return f">= {_number(value)}" if isinstance(value, int | float) else value or ""


def _constant(column: Column, rows: Sequence[Row]) -> bool:
    return len({repr(_cell(column, row)) for row in rows}) == 1


def _cell(column: Column, row: Row) -> Any:
    """What is shown of a flat row there, multiplied."""
    value = row.get(column.key)
    if column.low and value is not None:
        value = Spread(value, row[column.low], row[column.high])
    if column.times == 1.0 or value is None:
        return value
    return Spread(*(column.times * part for part in value)) if isinstance(value, Spread) else column.times * value


def _flat(row: Row, head: str = "") -> dict[str, Any]:
    """Mappings within become keys `a.b`; those of a median and its ends, and lists of measured numbers, a Spread."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        spread = _spread(value)
        if spread is not None:
            found[f"{head}{key}"] = spread
        elif isinstance(value, Mapping):
            found |= _flat(value, f"{head}{key}.")
        else:
            found[f"{head}{key}"] = value
    return found


def _spread(value: Any) -> Spread | None:
    # Lists of whole numbers are shapes.
    if isinstance(value, list) and value and any(isinstance(one, float) for one in value):
        return Spread(statistics.median(value), min(value), max(value))
    if isinstance(value, Mapping) and len(value) == 3:
        ends = [float(value[key]) for keys in (_CENTRES, _LOWS, _HIGHS) for key in keys if value.get(key) is not None]
        return Spread(*ends) if len(ends) == 3 else None
    return None


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Spread):
        middle, low, high = (_number(part) for part in value)
        return middle if value.low == value.high else f"{middle} [{low}, {high}]"
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, list):
        return " x ".join(map(_text, value))
    return str(value).replace("|", "\\|")


def _number(value: float) -> str:
    """Three digits, or all before the point; fewer where that is exact."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    short = f"{value:.3g}"
    return short if float(short) == value else f"{value:#.3g}".rstrip(".")


def _markdown(cells: Sequence[Sequence[str]]) -> list[str]:
    head, *rows = (f"| {' | '.join(row)} |" for row in cells)
    return [head, f"|{' --- |' * len(cells[0])}", *rows]
