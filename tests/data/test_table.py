from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fteng.config import DataConfig
from fteng.data.records import LeftOut, Record
from fteng.data.splits import split
from fteng.data.table import read_rows
from fteng.data.tables import read_table
from fteng.errors import UserError

SHARES = {"val_fraction": 0.2, "test_fraction": 0.3, "seed": 0}


def table(root: Path, content: str | bytes, **keys: str) -> DataConfig:
    path = root / "my table.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return DataConfig(source="table", path=str(path), **keys)  # pyright: ignore[reportArgumentType]


def test_columns_become_records(tmp_path: Path):
    content = "path,label,group,split,age\nimg/a 1.png,cat,p1,train,7\nimg\\b.png, dog ,,Validation,\nc.png,,p2,test,9\n"
    source = read_rows(table(tmp_path, content))
    assert source.name == "my table"
    first, second = source.records
    assert first == Record("img/a 1.png", "cat", "p1", tmp_path / "img" / "a 1.png", {"age": "7"}, "train")
    assert (second.id, second.label, second.group, second.split) == ("img/b.png", "dog", "img/b.png", "val")
    assert source.left_out == (LeftOut("c.png", "no class in column 'label'"),)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("comma", [",", ";", "\t"])
def test_however_it_was_saved(tmp_path: Path, ends: str, bom: str, comma: str):
    lines = [comma.join(cells) for cells in (("path", "label"), ("ä.png", '"a, b; c"'), ("b.png", "x"))]
    found = read_rows(table(tmp_path, bom + ends.join(lines) + ends + ends))
    assert [(record.id, record.label) for record in found.records] == [("ä.png", "a, b; c"), ("b.png", "x")]


def test_parquet_is_the_same(tmp_path: Path):
    path = tmp_path / "t.parquet"
    columns = {"path": ["a.png", "b.png"], "label": [1, 0], "group": [None, "p"], "age": [float("nan"), 3.5]}
    pq.write_table(pa.table(columns), path)
    first, second = read_rows(DataConfig(source="table", path=str(path))).records
    assert (first.label, first.group, first.extra["age"]) == ("1", "a.png", "")
    assert (second.label, second.group, second.extra["age"]) == ("0", "p", "3.5")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match=r"no whole Parquet file"):
        read_table(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("path,label\n", "has no rows"),
        ("path;class\na.png;x\n", "no column 'label', it has path, class; name the right one with --config.data.label_column"),
        ("file,label\na.png,x\n", "no column 'path', it has file, label"),
        ("path,label,label\na.png,x,y\n", "column 'label' stands twice"),
        ("path,label\na.png,x\nb.png\n", "line 3 has 1 cells, the head 2"),
        ("path,label\na.png,x\n,y\n", "line 3 names no image"),
        ("path,label\n../a.png,x\n", r"line 2: '../a.png' leaves the table's folder"),
        ("path,label\n/etc/passwd,x\n", "leaves the table's folder"),
        ("path,label\nimg/../../a.png,x\n", "leaves the table's folder"),
        ("path,label\na.png,x\nb.png,x\n./a.png,x\n", "lines 2 and 4 are both for 'a.png'"),
        ("path,label\na.png,\nb.png,\n", "no row has a class"),
        ("path,label,split\na.png,x,maybe\n", "split: got 'maybe', allowed: train, val, test"),
        ("path,label\ncaf\xe9.png,x\n".encode("latin-1"), r"is not UTF-8 \(byte 0xe9 in line 2\)"),
        ("path,label\na.png,x\n".encode("utf-16"), "is UTF-16"),
        ('path,label\n"a.png,x\n', "is no CSV"),
        ("path,label\na\0.png,x\n", "NUL"),
    ],
)
def test_bad_tables_are_one_line(tmp_path: Path, content: str | bytes, message: str):
    with pytest.raises(UserError, match=message) as caught:
        read_rows(table(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_column_that_was_asked_for_must_be_there(tmp_path: Path):
    with pytest.raises(UserError, match=r"no column 'patient'.*data.group_column"):
        read_rows(table(tmp_path, "path,label\na.png,x\n", group_column="patient"))
    with pytest.raises(UserError, match=r"data.path is empty"):
        read_rows(DataConfig(source="table"))
    with pytest.raises(UserError, match=r"cannot read the table .*No such file"):
        read_rows(DataConfig(source="table", path=str(tmp_path / "none.csv")))
    assert read_rows(table(tmp_path, "path,label,split\na.png,x,huh\n", split_column="")).records[0].split == ""


def test_classes_that_differ_in_case_are_pointed_out(tmp_path: Path):
    (note,) = read_rows(table(tmp_path, "path,label\na.png,Benign\nb.png,benign\n")).notes
    assert note.found == "classes that differ only in case: Benign, benign"


def given(parts: dict[str, dict[str, int]]) -> list[Record]:
    return [
        Record(f"{part}{label}{i}", label, f"{part}{label}{i}", Path(), split=part)
        for part, labels in parts.items()
        for label, n in labels.items()
        for i in range(n)
    ]


def test_a_given_split_is_kept():
    data = given({"train": {"a": 5, "b": 5}, "val": {"a": 2, "b": 1}, "test": {"a": 1, "b": 1}})
    assert split(data, **SHARES) == [record.split for record in data]


def test_val_comes_from_train_where_it_is_not_given():
    data = given({"train": {"a": 200, "b": 200}, "test": {"a": 30, "b": 30}})
    chosen = split(data, **SHARES)
    assert {part for record, part in zip(data, chosen, strict=True) if record.split == "test"} == {"test"}
    assert Counter(chosen)["val"] == pytest.approx(80, abs=20)
    assert Counter(chosen)["test"] == 60


def test_a_given_split_that_cannot_be_used_is_one_line():
    with pytest.raises(UserError, match=r"class 'c' has no image in train and val"):
        split(given({"train": {"a": 5, "b": 5}, "val": {"a": 1, "b": 1}, "test": {"a": 1, "b": 1, "c": 1}}), **SHARES)
    with pytest.raises(UserError, match=r"class 'a' has 1 group.*val and train, taken from the given train"):
        split(given({"train": {"a": 1, "b": 5}, "test": {"a": 1, "b": 1}}), **SHARES)
    data = given({"train": {"a": 5, "b": 5}, "test": {"a": 5, "b": 5}})
    with pytest.raises(UserError, match=r"1 group\(s\) are cut by the given split, the first, 'p', by test and train"):
        split([record._replace(group="p") if record.id in ("traina0", "testa0") else record for record in data], **SHARES)
    with pytest.raises(UserError, match=r"1 of 20 images have none"):
        split([data[0]._replace(split=""), *data[1:]], **SHARES)
    with pytest.raises(UserError, match=r"data.folds: the data bring their own split"):
        split(data, **SHARES, folds=5)
    with pytest.raises(UserError, match=r"class 'a' has no image in train"):
        split(given({"val": {"a": 5}, "test": {"a": 1}}), **SHARES)


def test_tables_as_spreadsheets_save_them(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text("sep=;\r\npath;label;;\r\na.png;x;;\r\nb.png;y\r\n", newline="")
    table = read_table(path)
    assert table.columns == ("path", "label")
    assert [row["label"] for row in table.rows] == ["x", "y"]


def test_a_folder_above_a_parquet_file_is_no_column(tmp_path: Path):
    where = tmp_path / "fold=3"
    where.mkdir()
    pq.write_table(pa.table({"path": ["a.png"], "label": ["x"]}), where / "t.parquet")
    assert read_table(where / "t.parquet").columns == ("path", "label")


def test_a_word_for_nobody_is_not_one_patient(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_text("path,label,group\na.png,x,nan\nb.png,y,NA\nc.png,y,unknown\nd.png,y,7\n")
    source = read_rows(DataConfig(source="table", path=str(path)))
    assert [record.group for record in source.records] == ["a.png", "b.png", "c.png", "7"]
