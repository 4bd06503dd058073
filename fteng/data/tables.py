"""Tables of text: CSV as people save it, and Parquet."""

import csv
import io
import re
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from fteng.errors import UserError

_DELIMITERS = ",;\t|"


class Table(NamedTuple):
    """Cells are stripped text, empty where there is none; lines[i] is where row i stands in the file, counted from 1."""

    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    lines: tuple[int, ...]


def read_table(path: Path) -> Table:
    """A CSV (UTF-8, with or without BOM; comma, semicolon, tab or bar; any line end) or Parquet file.

    Raises UserError if it is missing, empty, not UTF-8, ragged or has a column twice.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the table {path} ({error.strerror}); give a CSV or Parquet file") from None
    table = _parquet(path) if content[:4] == b"PAR1" else _csv(path, content)
    twice = sorted({name for name in table.columns if table.columns.count(name) > 1})
    if twice:
        raise UserError(f"{path}: column {twice[0]!r} stands twice; rename one of them")
    if not table.rows:
        raise UserError(f"{path}: the table has no rows; give one row an image")
    return table


def require(path: Path, table: Table, column: str, key: str) -> None:
    """Raises UserError if there is no such column; `key` is the config key that names it."""
    if column not in table.columns:
        raise UserError(f"{path}: no column {column!r}, it has {', '.join(table.columns)}; name the right one with --config.{key}")


def _csv(path: Path, content: bytes) -> Table:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{path} is UTF-16; save it as `CSV UTF-8`, or: iconv -f UTF-16 -t UTF-8 OLD > NEW")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path} is not UTF-8 (byte 0x{content[error.start]:02x} in line {line}); save it as `CSV UTF-8`, or:"
            " iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
        ) from None
    if "\0" in text:
        raise UserError(f"{path} holds NUL bytes, so it is no text; give a CSV or Parquet file")
    # Excel's own way to say which delimiter follows.
    text = re.sub(r"\A\s*sep=.\r?\n", "", text)
    first = text.lstrip("\r\n").partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(_DELIMITERS, key=first.count), strict=True)
    columns: tuple[str, ...] = ()
    rows, lines = [], []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns = tuple(cell.strip() for cell in cells)
                # Spreadsheets save empty columns to the right of a table.
                while not columns[-1]:
                    columns = columns[:-1]
                continue
            while len(cells) > len(columns) and not cells[-1].strip():
                cells.pop()
            if len(cells) != len(columns):
                raise UserError(f"{path}: line {reader.line_num} has {len(cells)} cells, the head {len(columns)}; mend the line")
            rows.append(dict(zip(columns, (cell.strip() for cell in cells), strict=True)))
            lines.append(reader.line_num)
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num} is no CSV ({error}); save the table anew") from None
    if not columns:
        raise UserError(f"{path} is empty; give a table with one row an image")
    return Table(columns, tuple(rows), tuple(lines))


def _parquet(path: Path) -> Table:
    try:
        # read_table would take a folder called `fold=3` above the file for a column.
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is no whole Parquet file ({str(error).splitlines()[0]}); write it anew") from None
    cells = [["" if cell is None or cell != cell else str(cell).strip() for cell in column.to_pylist()] for column in table.columns]
    columns = tuple(table.column_names)
    rows = tuple(dict(zip(columns, row, strict=True)) for row in zip(*cells, strict=True))
    return Table(columns, rows, tuple(range(1, len(rows) + 1)))
