"""A table with one row an image: file, class, and what else is known of it."""

import os
from collections.abc import Mapping
from pathlib import Path

from fteng.config import DataConfig
from fteng.data.groups import owner
from fteng.data.records import LeftOut, Note, Record, RecordSet
from fteng.data.splits import split_name
from fteng.data.tables import Table, read_table, require
from fteng.errors import UserError


def read_rows(config: DataConfig) -> RecordSet:
    """Each row is a record, its id the image's path below the table's folder; all other columns go to `extra`.

    A row without a class is left out by name. Raises UserError on a missing column, an empty path, a path that leaves the
    folder, or two rows for one image.
    """
    if not config.path:
        raise UserError("data.path is empty; give a CSV or Parquet file with one row an image: --config.data.path=FILE")
    path = Path(config.path).expanduser()
    table = read_table(path)
    require(path, table, config.path_column, "data.path_column")
    require(path, table, config.label_column, "data.label_column")
    group = optional(config.group_column, "group", path, table, "data.group_column")
    split = optional(config.split_column, "split", path, table, "data.split_column")
    named = {config.path_column, config.label_column, group, split}
    records: list[Record] = []
    left_out: list[LeftOut] = []
    line_of: dict[str, int] = {}
    for line, row in zip(table.lines, table.rows, strict=True):
        id_ = _inside(path, line, row[config.path_column])
        if id_ in line_of:
            raise UserError(f"{path}: lines {line_of[id_]} and {line} are both for {id_!r}; keep one row an image")
        line_of[id_] = line
        if not row[config.label_column]:
            left_out.append(LeftOut(id_, f"no class in column {config.label_column!r}"))
            continue
        extra = {name: value for name, value in row.items() if name not in named}
        # An empty cell says that nothing is known, not that all such images belong together.
        whose = (owner(row[group]) if group else "") or id_
        part = split_name(row[split]) if split else ""
        records.append(Record(id_, row[config.label_column], whose, path.parent / id_, extra, part))
    if not records:
        raise UserError(f"{path}: no row has a class in column {config.label_column!r}; fill it, or set data.label_column")
    return RecordSet(config.name or path.stem, tuple(records), tuple(left_out), tuple(_alike(records)))


def optional(column: str, usual: str, path: Path, table: Table, key: str) -> str:
    """The column if it is there; empty if it is the usual name and is not. Raises UserError if someone asked for it by name."""
    if column and column != usual:
        require(path, table, column, key)
    return column if column in table.columns else ""


def _inside(path: Path, line: int, cell: str) -> str:
    """The cell as a path below the table's folder, with /."""
    if not cell:
        raise UserError(f"{path}: line {line} names no image; fill the cell or take the row away")
    folder = os.path.abspath(path.parent)  # noqa: PTH100 - must not follow links: a link inside the folder is its owner's wish
    place = os.path.normpath(os.path.join(folder, cell.replace("\\", "/")))  # noqa: PTH118
    if not place.startswith(folder + os.sep):
        raise UserError(f"{path}: line {line}: {cell!r} leaves the table's folder; put table and images into one folder")
    return Path(place).relative_to(folder).as_posix()


def _alike(records: list[Record]) -> list[Note]:
    spellings: dict[str, set[str]] = {}
    for record in records:
        spellings.setdefault(record.label.casefold(), set()).add(record.label)
    alike: Mapping[str, set[str]] = {name: found for name, found in spellings.items() if len(found) > 1}
    return [
        Note(f"classes that differ only in case: {', '.join(sorted(found))}", "kept apart; data.merge makes them one", ())
        for found in alike.values()
    ]
