"""Which images are asked for: files, folders and tables, in the order in which they were named. Imports no jax."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fteng.data.folder import IMAGE_SUFFIXES, is_litter
from fteng.data.tables import read_table
from fteng.errors import UserError

_TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".parquet"})


class Wanted(NamedTuple):
    """One image. path: as the user has it, a cell of the table or a path below the folder; group: empty where nobody states one."""

    path: str
    file: Path
    group: str


class Columns(NamedTuple):
    """Where tables say what. group_asked: the user named the group's column, so that a table without it is a mistake."""

    path: str
    group: str
    group_asked: bool


class Listing(NamedTuple):
    """images: in order; grouped: some table says which images belong together; notes: what was passed over, a line each."""

    images: tuple[Wanted, ...]
    grouped: bool
    notes: tuple[str, ...]


def find_images(places: Sequence[Path], columns: Columns) -> Listing:
    """Every image of `places`: an image file, a folder (searched at every depth, in order of names), or a CSV or Parquet table.

    A link to a folder is not followed inside a folder. Raises UserError where a place does not exist or holds no image; an image
    that a table names is looked for only when its turn comes.
    """
    images: list[Wanted] = []
    notes: list[str] = []
    grouped = False
    for place in places:
        if place.is_dir():
            images += _folder(place, notes)
        elif not place.is_file():
            raise UserError(f"no file or folder {str(place)!r} (seen from {Path.cwd()}); give images, folders or tables")
        elif place.suffix.lower() in _TABLE_SUFFIXES:
            rows, has_groups = _table(place, columns)
            images += rows
            grouped |= has_groups
        else:
            images.append(Wanted(_text(place), place, ""))
    if columns.group_asked and not grouped:
        raise UserError(f"--group_column={columns.group}: no table among the paths; give a CSV or Parquet file with that column")
    return Listing(tuple(images), grouped, tuple(notes))


def _folder(root: Path, notes: list[str]) -> list[Wanted]:
    files = list(_walk(root))
    found = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
    others = len(files) - len(found)
    if not found:
        raise UserError(f"no image in {str(root)!r} ({others} other files); allowed: {', '.join(sorted(IMAGE_SUFFIXES))}")
    if others:
        notes.append(f"{root}: {others} files are no images by their names and were passed over")
    return [Wanted(_text(path), path, "") for path in found]


def _text(path: Path) -> str:
    """Names that are not UTF-8 come as lone surrogates, which no file of text can hold."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _walk(root: Path) -> Iterator[Path]:
    """Files below `root` in order of their names, without what is hidden or left behind by an operating system."""

    def refuse(error: OSError) -> None:
        raise UserError(f"cannot look into {error.filename} ({error.strerror}); allow it, or name the folders beside it")

    for place, inner, files in os.walk(root, onerror=refuse):
        inner[:] = sorted(name for name in inner if not is_litter(name))
        yield from (Path(place, name) for name in sorted(files) if not is_litter(name))


def _table(path: Path, columns: Columns) -> tuple[list[Wanted], bool]:
    """(rows, whether they have groups). A row without a group is one of its own."""
    table = read_table(path)
    for column, flag in ((columns.path, "--path_column"), *(((columns.group, "--group_column"),) * columns.group_asked)):
        if column not in table.columns:
            raise UserError(f"{path}: no column {column!r}, it has {', '.join(table.columns)}; name the right one with {flag}=NAME")
    has_groups = columns.group in table.columns
    rows = []
    for line, row in zip(table.lines, table.rows, strict=True):
        cell = row[columns.path]
        if not cell:
            raise UserError(f"{path}: line {line} names no image; fill the cell or take the row away")
        group = (row[columns.group] or cell) if has_groups else ""
        rows.append(Wanted(cell, path.parent / cell.replace("\\", "/"), group))
    return rows, has_groups
