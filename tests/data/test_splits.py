from collections import Counter
from pathlib import Path

import pytest

from fteng.data.records import Record
from fteng.data.splits import limit, split
from fteng.errors import UserError

SHARES = {"val_fraction": 0.2, "test_fraction": 0.3, "seed": 0}


def records(groups_of: dict[str, int], images: int = 1) -> list[Record]:
    return [
        Record(f"{label}{group}-{image}", label, f"{label}{group}", __file__)  # pyright: ignore[reportArgumentType]
        for label, groups in groups_of.items()
        for group in range(groups)
        for image in range(images)
    ]


def test_shares_are_met_on_average_and_every_seed_differs():
    data = records({"a": 2000, "b": 1000})
    chosen = split(data, **SHARES)
    for label in "ab":
        parts = Counter(part for record, part in zip(data, chosen, strict=True) if record.label == label)
        assert parts["test"] / parts.total() == pytest.approx(0.3, abs=0.04)
        assert parts["val"] / parts.total() == pytest.approx(0.2, abs=0.04)
    assert chosen == split(data, **SHARES)
    assert chosen != split(data, **SHARES | {"seed": 1})


def test_order_and_new_images_move_nothing():
    data = records({"a": 200, "b": 200})
    before = dict(zip((record.id for record in data), split(data, **SHARES), strict=True))
    more = list(reversed(records({"a": 260, "b": 200, "c": 40})))
    after = dict(zip((record.id for record in more), split(more, **SHARES), strict=True))
    assert {id_: after[id_] for id_ in before} == before


def test_a_group_is_never_cut():
    data = records({"a": 40, "b": 40}, images=7)
    # Groups of mixed labels too.
    data += [Record(f"mixed{i}", "ab"[i % 2], f"mixed{i // 4}", __file__) for i in range(40)]  # pyright: ignore[reportArgumentType]
    places: dict[str, set[str]] = {}
    for record, part in zip(data, split(data, **SHARES), strict=True):
        places.setdefault(record.group, set()).add(part)
    assert {len(parts) for parts in places.values()} == {1}


@pytest.mark.parametrize("seed", range(30))
def test_three_groups_are_enough_for_every_class_in_every_split(seed: int):
    data = records({"a": 3, "b": 4, "c": 50})
    chosen = split(data, **SHARES | {"seed": seed})
    assert len({(record.label, part) for record, part in zip(data, chosen, strict=True)}) == 9


@pytest.mark.parametrize("seed", range(20))
def test_a_class_that_is_a_minority_in_all_its_groups_is_in_every_split(seed: int):
    data = records({"benign": 30}, images=3)
    data += [Record(f"m{i}", "malignant", f"benign{i}", __file__) for i in range(4)]  # pyright: ignore[reportArgumentType]
    chosen = split(data, **SHARES | {"seed": seed})
    assert len({(record.label, part) for record, part in zip(data, chosen, strict=True)}) == 6


@pytest.mark.parametrize("seed", range(10))
def test_folds_are_a_partition_with_every_class_in_each_split(seed: int):
    data = records({"a": 5, "b": 33}, images=2)
    tested: Counter[str] = Counter()
    for fold in range(5):
        chosen = split(data, **SHARES | {"seed": seed}, folds=5, fold=fold)
        assert len({(record.label, part) for record, part in zip(data, chosen, strict=True)}) == 6
        tested.update(record.id for record, part in zip(data, chosen, strict=True) if part == "test")
    assert tested == Counter(record.id for record in data)


def test_what_cannot_be_split_is_one_line():
    with pytest.raises(UserError, match=r"class 'b' has 2 group\(s\).*at least 3"):
        split(records({"a": 9, "b": 2}), **SHARES)
    with pytest.raises(UserError, match=r"at least 10"):
        split(records({"a": 90, "b": 9}), **SHARES, folds=10)
    with pytest.raises(UserError, match=r"a fold below them"):
        split(records({"a": 90, "b": 90}), **SHARES, folds=5, fold=5)
    with pytest.raises(UserError, match=r"at least 3 folds"):
        split(records({"a": 90, "b": 90}), **SHARES, folds=2, fold=1)
    # Two classes that share all of their three groups with a third: nothing wrong; all in one patient: no split.
    with pytest.raises(UserError, match=r"class 'a' has 1 group"):
        split([record._replace(group="patient") for record in records({"a": 9, "b": 9})], **SHARES)


def test_limit_is_stratified_stable_and_keeps_groups_whole():
    data = records({"a": 300, "b": 100}, images=2)
    some = limit(data, 200, seed=0)
    assert Counter(record.label for record in some) == {"a": 150, "b": 50}
    assert set(Counter(record.group for record in some).values()) == {2}
    assert {record.id for record in limit(data, 100, seed=0)} < {record.id for record in some}
    assert [record for record in data if record in some] == some
    # What limit keeps is spread over the splits like everything else.
    assert Counter(split(some, **SHARES))["test"] < 90
    assert limit(data, 0, seed=0) == data == limit(data, 5000, seed=0)
    with pytest.raises(UserError, match=r"data.limit: 5 of 800 .* none of class 'b'"):
        limit(data, 5, seed=0)


def test_folds_that_leave_nothing_to_train_on_are_refused():
    rows = [Record(f"{i}", "ab"[i % 2], f"{i}", Path(f"{i}")) for i in range(40)]
    with pytest.raises(UserError, match=r"val_fraction=0.7 and one fold of 3 leave no image to train on"):
        split(rows, val_fraction=0.7, test_fraction=0.2, seed=0, folds=3)


def test_a_limit_keeps_every_given_split():
    rows = [Record(f"{i}", "ab"[i % 2], f"{i}", Path(f"{i}"), split="test" if i < 4 else "train") for i in range(40)]
    assert {record.split for record in limit(rows, 20, seed=0)} == {"train", "test"}
    with pytest.raises(UserError, match=r"12 of 40 images leave none of the given split 'test'"):
        limit(rows, 12, seed=0)
