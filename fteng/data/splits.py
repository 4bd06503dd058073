"""Train, val and test: every class in each, shares met on average, never through a group, and stable when images are added."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fteng.data.records import Record
from fteng.errors import UserError

SPLITS = ("train", "val", "test")
_SPLIT_NAMES = {"": "", "train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation", "dev"), "val"
)


class _Part(NamedTuple):
    """Groups whose place falls in [low, high) go here; every class is to have at least `least` of them."""

    name: str
    low: float
    high: float
    least: int = 1


def split(
    records: Sequence[Record], *, val_fraction: float, test_fraction: float, seed: int, folds: int = 0, fold: int = 0
) -> list[str]:
    """The split of each record.

    A group goes where the hash of (seed, group) falls in [0, 1): below test_fraction to test, then val, then train. It depends
    on nothing else, so new images never move old ones between train and test; the price is that shares are met on average,
    not exactly. Only where a class would be missing in a split, the nearest group of that class moves there.
    Where the source gives a split it is used as it is; if it has no val or no test, that is taken from its train likewise.
    With folds > 0 the test set is fold number `fold` (0 ...) of so many, and test_fraction is not used: the test sets of all
    folds share no group and together are the whole.
    Raises UserError where a class has too few groups, or there is no such fold.
    """
    if any(record.split for record in records):
        if folds:
            raise UserError("data.folds: the data bring their own split; set data.split_column to nothing to make folds of them")
        return _complete(records, val_fraction=val_fraction, test_fraction=test_fraction, seed=seed)
    if folds and not (len(SPLITS) <= folds and fold < folds):
        raise UserError(f"data.folds={folds}, data.fold={fold}: allowed: 0 or at least {len(SPLITS)} folds, and a fold below them")
    if folds and val_fraction + 1 / folds >= 1:
        raise UserError(
            f"data.val_fraction={val_fraction:g} and one fold of {folds} leave no image to train on; take less, or more folds"
        )
    classes_of = _classes_of_groups(records)
    _check_sizes(classes_of, max(folds, len(SPLITS)), f"data.folds={folds}" if folds else "train, val and test")
    places = {group: _place(seed, group) for group in classes_of}
    if folds:
        outer = [_Part(str(index), index / folds, (index + 1) / folds) for index in range(folds)]
        dealt = _deal(classes_of, places, outer)
        test = {group for group, part in dealt.items() if part == str(fold)}
        # Seen from its own test set each fold looks like the first one, so that val moves on with it.
        places = {group: (place - fold / folds) % 1 for group, place in places.items()}
        test_fraction = 1 / folds
    else:
        outer = [_Part("test", 0.0, test_fraction), _Part("rest", test_fraction, 1.0, least=2)]
        test = {group for group, part in _deal(classes_of, places, outer).items() if part == "test"}
    bound = test_fraction + val_fraction
    rest = {group: classes for group, classes in classes_of.items() if group not in test}
    inner = _deal(rest, places, [_Part("val", test_fraction, bound), _Part("train", bound, 1.0)])
    return ["test" if record.group in test else inner[record.group] for record in records]


def limit(records: Sequence[Record], most: int, *, seed: int) -> list[Record]:
    """At most `most` records (0: all), each class by its share, whole groups, those with the least hash. Keeps the order.

    Raises UserError where nothing of a class, or of a given split, is left.
    """
    if not most or most >= len(records):
        return list(records)
    stratum_of = _stratum_of_groups(records)
    sizes = Counter(record.group for record in records)
    kept: set[str] = set()
    for stratum in sorted(set(stratum_of.values())):
        # Another hash than that of the split: the least places of that one are all test.
        groups = sorted((g for g in stratum_of if stratum_of[g] == stratum), key=lambda g: _place(seed, f"limit/{g}"))
        room = most * sum(sizes[group] for group in groups) // len(records)
        for group in groups:
            if sizes[group] <= room:
                kept.add(group)
                room -= sizes[group]
    left = [record for record in records if record.group in kept]
    for what, lost in (
        ("class", {record.label for record in records} - {record.label for record in left}),
        ("the given split", {record.split for record in records} - {record.split for record in left}),
    ):
        if lost:
            raise UserError(
                f"data.limit: {most} of {len(records)} images leave none of {what} {min(lost)!r}; raise it, or set it to 0 (all)"
            )
    return left


def split_name(text: str) -> str:
    """`train`, `val` or `test` by any of its usual names, empty for none. Raises UserError on another word."""
    name = _SPLIT_NAMES.get(text.strip().lower())
    if name is None:
        raise UserError(f"split: got {text!r}, allowed: train, val, test (or training, validation, valid, dev, testing), or none")
    return name


def _complete(records: Sequence[Record], *, val_fraction: float, test_fraction: float, seed: int) -> list[str]:
    """The given split, with val and test taken from train where they are not given. Raises UserError on what it cannot be."""
    splits_of: dict[str, set[str]] = defaultdict(set)
    for record in records:
        splits_of[record.group].add(record.split)
    blank = sum(not record.split for record in records)
    if blank:
        raise UserError(f"split: {blank} of {len(records)} images have none; give it to each, or set data.split_column to nothing")
    cut = sorted(group for group, parts in splits_of.items() if len(parts) > 1)
    if cut:
        parts = " and ".join(sorted(splits_of[cut[0]]))
        raise UserError(
            f"split: {len(cut)} group(s) are cut by the given split, the first, {cut[0]!r}, by {parts}; put each group into one"
            " split, or set data.split_column to nothing to split anew"
        )
    shares = {"test": test_fraction, "val": val_fraction}
    parts, low = [], 0.0
    for name in (name for name in shares if not any(record.split == name for record in records)):
        parts.append(_Part(name, low, low + shares[name]))
        low += shares[name]
    chosen = {group: next(iter(names)) for group, names in splits_of.items()}
    if parts:
        classes_of = _classes_of_groups([record for record in records if record.split == "train"])
        _check_sizes(classes_of, len(parts) + 1, f"{', '.join(part.name for part in parts)} and train, taken from the given train,")
        places = {group: _place(seed, group) for group in classes_of}
        chosen |= _deal(classes_of, places, [*parts, _Part("train", low, 1.0)])
    found = {(record.label, chosen[record.group]) for record in records}
    for label in sorted({record.label for record in records}):
        lacking = [name for name in SPLITS if (label, name) not in found]
        if lacking:
            raise UserError(
                f"split: class {label!r} has no image in {' and '.join(lacking)}; each class must be in each split: leave it"
                " out, or set data.split_column to nothing to split anew"
            )
    return [chosen[record.group] for record in records]


def _classes_of_groups(records: Sequence[Record]) -> dict[str, set[str]]:
    classes_of: dict[str, set[str]] = defaultdict(set)
    for record in records:
        classes_of[record.group].add(record.label)
    return classes_of


def _stratum_of_groups(records: Sequence[Record]) -> dict[str, tuple[str, str]]:
    """The commonest (given split, label) of each group, of equal ones the first by name."""
    counts: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for record in records:
        counts[record.group][record.split, record.label] += 1
    return {group: min(strata, key=lambda stratum: (-strata[stratum], stratum)) for group, strata in counts.items()}


def _place(seed: int, group: str) -> float:
    """A number in [0, 1) that depends on seed and group alone, on any machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{group}".encode()).digest()[:8], "big") / 2**64


def _check_sizes(classes_of: Mapping[str, set[str]], least: int, wanted: str) -> None:
    groups = Counter(label for classes in classes_of.values() for label in classes)
    for label, n in sorted(groups.items()):
        if n < least:
            raise UserError(
                f"class {label!r} has {n} group(s) of images (a group: one patient, or one image where nothing says which"
                f" belong together); {wanted} need at least {least}: add images, merge classes with data.merge, or"
                " look at the column of groups"
            )


def _deal(classes_of: Mapping[str, set[str]], places: Mapping[str, float], parts: Sequence[_Part]) -> dict[str, str]:
    """The part of each group by its place; then the nearest groups move where a class has fewer than `least`.

    A place outside all parts (a group that was moved here before) goes to the nearest. Raises UserError where none can move.
    """
    chosen = {group: min(parts, key=lambda part: _distance(places[group], part)).name for group in classes_of}
    members = Counter((label, chosen[group]) for group, classes in classes_of.items() for label in classes)
    least = {part.name: part.least for part in parts}
    for label in sorted({label for classes in classes_of.values() for label in classes}):
        for part in parts:
            while members[label, part.name] < part.least:
                donors = [
                    group
                    for group, classes in classes_of.items()
                    if label in classes
                    and chosen[group] != part.name
                    and all(members[other, chosen[group]] > least[chosen[group]] for other in classes)
                ]
                if not donors:
                    raise UserError(
                        f"class {label!r} cannot be in train, val and test: its images are in too few groups that other classes"
                        " could spare; add images, or leave the class out"
                    )
                moved = min(donors, key=lambda group: (_distance(places[group], part), group))
                members.subtract((other, chosen[moved]) for other in classes_of[moved])
                members.update((other, part.name) for other in classes_of[moved])
                chosen[moved] = part.name
    return chosen


def _distance(place: float, part: _Part) -> float:
    """0 inside the part, else how far it is to its near end."""
    return 0.0 if part.low <= place < part.high else max(part.low - place, place - part.high, 1e-18)
