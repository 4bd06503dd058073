"""The file of answers: one row an image, written as the answers come, so that a killed run goes on where it was. Imports no jax.

While a run lasts the rows stand in `OUT.part`; once all are there it becomes OUT, so OUT exists = every image has its row.
`OUT.json` says what the rows are answers of: a run goes on only with the same images, model and settings.
"""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from fteng import paths
from fteng.errors import UserError
from fteng.locks import take
from fteng.predict import pool
from fteng.predict.wanted import Wanted

ENDINGS = (".csv", ".parquet")


class Answer(NamedTuple):
    """What is said of one image. probabilities: calibrated; raw: softmax of the logits as they are; unlike: the distance in units
    of the limit, above 1 = unlike the training images, None = not known; with an error nothing else is said."""

    probabilities: Sequence[float]
    raw: Sequence[float]
    unlike: float | None
    error: str


class OutputColumns(NamedTuple):
    """The columns of a file."""

    classes: tuple[str, ...]
    grouped: bool

    @property
    def header(self) -> list[str]:
        """Names of the columns, in order."""
        shares = [f"{kind}_{name}" for kind in ("probability", "raw") for name in self.classes]
        return ["path", *(["group"] if self.grouped else []), "predicted", *shares, "unlike_score", "unlike", "error"]

    def cells(self, wanted: Wanted, row: Answer) -> list[str]:
        """The row as text: seven digits, which is what float32 is good for."""
        named = [wanted.path, *([wanted.group] if self.grouped else [])]
        if row.error:
            return [*named, *([""] * (len(self.header) - len(named) - 1)), row.error]
        best = self.classes[int(np.argmax(row.probabilities))]
        shares = [f"{share:.7g}" for share in (*row.probabilities, *row.raw)]
        judged = ["", ""] if row.unlike is None else [f"{row.unlike:.5g}", "true" if row.unlike > 1 else "false"]
        return [*named, best, *shares, *judged, ""]


class Done(NamedTuple):
    """Of the rows that stand in a file: how many, how many say that the file cannot be read, or that the image is unlike."""

    rows: int = 0
    errors: int = 0
    unlike: int = 0


class Output(NamedTuple):
    """An open file of answers. done: what stood in it when it was opened."""

    file: IO[str]
    layout: OutputColumns
    done: Done

    def write(self, wanted: Sequence[Wanted], rows: Sequence[Answer]) -> None:
        """Append rows and hand them to the system, where a kill cannot reach them."""
        lines = (self.layout.cells(one, row) for one, row in zip(wanted, rows, strict=True))
        csv.writer(self.file, lineterminator="\n").writerows(lines)
        self.file.flush()


def is_finished(out: Path, about: Mapping[str, Any]) -> bool:
    """Whether `out` is there. Raises UserError where it, or what was begun of it, is of something else than `about`."""
    described = _about(out)
    for begun in (out, _part(out)):
        if begun.exists() and (not described.exists() or paths.read_json(described) != json.loads(json.dumps(about))):
            raise UserError(
                f"--out: {begun} holds answers to other images, of another model or under other settings; name another --out, or"
                " delete it"
            )
    return out.exists()


@contextmanager
def open_output(
    out: Path, layout: OutputColumns, wanted: Sequence[Wanted], about: Mapping[str, Any], batch: int
) -> Iterator[Output]:
    """The file, cut after the last whole batch that stands in it, so that the rest is computed as it would have been.

    At the end of the block, when every image must have its row, it becomes `out`, and its groups are pooled beside it. Raises
    UserError where it cannot be written, or another process writes it.
    """
    part = _part(out)
    try:
        paths.write_json(_about(out), about)
        with _alone(part), part.open("a+b") as raw:
            done = _cut(raw, layout.header, wanted, batch)
            file = io.TextIOWrapper(raw, encoding="utf-8", newline="")
            if not raw.tell():
                csv.writer(file, lineterminator="\n").writerow(layout.header)
            yield Output(file, layout, done)
            file.flush()
            if layout.grouped:
                pool.write_groups(part, out.with_name(f"{out.stem}.groups.csv"), layout.classes)
            if out.suffix == ".parquet":
                _to_parquet(part, out, layout.header)
                part.unlink()
            else:
                part.replace(out)
    except OSError as error:
        raise UserError(f"--out: cannot write {out} ({error.strerror}); make room, or name another place") from None


def _part(out: Path) -> Path:
    return out.with_name(f"{out.name}.part")


def _about(out: Path) -> Path:
    return out.with_name(f"{out.name}.json")


@contextmanager
def _alone(part: Path) -> Iterator[None]:
    if (handle := take(part)) is None:
        raise UserError(f"--out: another process is writing {part}; wait for it, or name another --out")
    try:
        yield
    finally:
        os.close(handle)


def _cut(raw: IO[bytes], header: list[str], wanted: Sequence[Wanted], batch: int) -> Done:
    """Rows that may stay: whole ones of the first images, in whole batches. What a kill or a power cut left behind them goes."""
    raw.seek(0)
    found: list[tuple[int, Done]] = []
    end = 0

    def lines() -> Iterator[str]:
        nonlocal end
        for line in raw:
            end += len(line)
            yield line.decode("utf-8", "replace") if line.endswith(b"\n") else ""

    rows = csv.reader(lines())
    if next(rows, None) == header:
        done = Done()
        found.append((end, done))
        for cells, one in zip(rows, wanted, strict=False):
            if len(cells) != len(header) or cells[0] != one.path:
                break
            done = Done(done.rows + 1, done.errors + bool(cells[-1]), done.unlike + (cells[-2] == "true"))
            found.append((end, done))
    rows_kept = max(len(found) - 1, 0)
    # Only the last batch may be smaller.
    rows_kept -= rows_kept % batch if rows_kept < len(wanted) else 0
    end, done = found[rows_kept] if found else (0, Done())
    raw.truncate(end)
    raw.seek(0, io.SEEK_END)
    return done


def _to_parquet(part: Path, out: Path, header: list[str]) -> None:
    """The rows in the types they have, in memory that does not grow with their number."""
    kinds = {"unlike": pa.bool_(), "unlike_score": pa.float64()}
    kinds |= {name: pa.string() for name in ("path", "group", "predicted", "error")}
    types = {name: kinds.get(name, pa.float64()) for name in header}
    convert = pyarrow.csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=False)
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)

    def write(beside: Path) -> None:
        with (
            pyarrow.csv.open_csv(part, parse_options=parse, convert_options=convert) as batches,
            pyarrow.parquet.ParquetWriter(beside, batches.schema) as writer,
        ):
            for rows in batches:
                writer.write_batch(rows)

    paths.write_by(out, write)
