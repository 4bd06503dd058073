"""All tables of a download as one row an image, whatever years they come from."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from fteng.data.folder import IMAGE_SUFFIXES
from fteng.data.isic.columns import FIELDS, IDS, KINDS, LABELS, owners, plain
from fteng.data.records import LeftOut, Note
from fteng.data.tables import Table, read_table
from fteng.errors import UserError

_ID = re.compile(r"ISIC_\d{7}\w*")
_OWNERS = frozenset(column for kind in KINDS for column in FIELDS[kind])


class Joined(NamedTuple):
    """rows: id -> non-empty cells by plain column name; links: names `KIND:NAME` that belong together, of all rows."""

    rows: dict[str, dict[str, str]]
    links: list[tuple[str, ...]]
    left_out: list[LeftOut]
    notes: list[Note]


def join_tables(files: Sequence[Path]) -> Joined:
    """Read and join by image id; of cells that tables fill differently the first counts, by the tables' names.

    Left out: an id whose rows in one table disagree, and one whose tables disagree on its label. Tables may name a patient or a
    lesion differently: both names then belong together. Raises UserError for a table without ids.
    """
    rows: dict[str, dict[str, str]] = {}
    links: list[tuple[str, ...]] = []
    notes: list[Note] = []
    wrong: dict[str, LeftOut] = {}
    differing: dict[str, list[str]] = defaultdict(list)
    for file in files:
        table = _headed(file)
        if set(table.columns) == {"image_name_1", "image_name_2"}:
            links += [(f"image:{_id(row['image_name_1'])}", f"image:{_id(row['image_name_2'])}") for row in table.rows]
            continue
        own = _by_id(file, table, links, notes, wrong)
        for id_, row in own.items():
            known = rows.setdefault(id_, {})
            for column, cell in row.items():
                if _same(known.setdefault(column, cell), cell):
                    continue
                if column in LABELS:
                    told = f"tables disagree on {column}: {known[column]} and {cell}"
                    wrong.setdefault(id_, LeftOut(id_, told, "with tables that disagree"))
                elif column not in _OWNERS:
                    differing[column].append(id_)
    for column, ids in sorted(differing.items()):
        notes.append(Note(f"images of which tables fill {column} differently", "the first table counts", tuple(ids)))
    left_out = [wrong[id_] for id_ in sorted(wrong)]
    return Joined({id_: row for id_, row in rows.items() if id_ not in wrong}, links, left_out, notes)


def _by_id(
    file: Path, table: Table, links: list[tuple[str, ...]], notes: list[Note], wrong: dict[str, LeftOut]
) -> dict[str, dict[str, str]]:
    """The rows of one table; who belongs together goes to links, what is odd to notes and wrong, by id."""
    key = next((name for name in IDS if name in table.columns), None)
    if key is None:
        raise UserError(
            f"{file}: no column {', '.join(IDS)}, it has {', '.join(table.columns)}; take the table away, or name the column of"
            " image ids so"
        )
    own: dict[str, dict[str, str]] = {}
    seen: Counter[str] = Counter()
    for row in table.rows:
        id_ = _id(row[key])
        seen[id_] += 1
        if id_:
            # Of every row, also of those that are left out in the end: that an image is not used parts no patients.
            links.append((f"image:{id_}", *owners(row)))
        cells = {column: cell for column, cell in row.items() if cell and column != key}
        if own.setdefault(id_, cells) != cells:
            columns = sorted(name for name in {*cells, *own[id_]} if cells.get(name) != own[id_].get(name))
            told = f"its rows in {file.name} disagree on {', '.join(columns)}"
            wrong.setdefault(id_, LeftOut(id_, told, "with table rows that disagree"))
    if seen[""]:
        notes.append(Note(f"{seen['']} row(s) of {file.name} without an image id", "skipped", ()))
        del own[""]
        wrong.pop("", None)
    repeated = tuple(id_ for id_, n in seen.items() if n > 1 and id_)
    if repeated:
        done = "rows that agree count once; images whose rows disagree are left out"
        notes.append(Note(f"ids with more than one row in {file.name}", done, repeated))
    return own


def _headed(file: Path) -> Table:
    """The table with plain column names; that of 2016 has no head, so its first line is a row."""
    table = read_table(file)
    columns, lines = tuple(plain(column) for column in table.columns), table.lines
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise UserError(f"{file}: column {twice[0]!r} stands twice (in upper and lower case); rename one of them")
    cells = [tuple(row.values()) for row in table.rows]
    if _ID.fullmatch(table.columns[0]) and len(columns) == len(("id", "label")):
        label = "target" if re.fullmatch(r"[\d.]+", table.columns[1]) else "benign_malignant"
        columns, lines, cells = ("image_id", label), (1, *lines), [table.columns, *cells]
    return Table(columns, tuple(dict(zip(columns, row, strict=True)) for row in cells), lines)


def _id(cell: str) -> str:
    """An image's id, which some tables write as the name or path of its file."""
    path = PurePosixPath(cell.replace("\\", "/"))
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else cell


def _same(one: str, other: str) -> bool:
    """Whether two cells say the same: 80 and 80.0, Benign and benign."""
    if one.casefold() == other.casefold():
        return True
    try:
        return float(one) == float(other)
    except ValueError:
        return False
