"""A folder of ISIC images and tables as records: from `isic image download`, the archive's snapshot, or a challenge.

The folder holds tables (CSV or Parquet, at its top or in a `metadata` folder), and images called by their id at any depth.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fteng.config import DataConfig
from fteng.data.folder import IMAGE_SUFFIXES, is_litter, printable, walk
from fteng.data.groups import join_groups
from fteng.data.isic.columns import BENIGN, FIELDS, INDETERMINATE, KINDS, MALIGNANT, diagnosis, field, plain
from fteng.data.isic.tables import Joined, join_tables
from fteng.data.records import LeftOut, Note, Record, RecordSet
from fteng.errors import UserError

_TABLES = {".csv", ".parquet"}
# Harvard's copy of the table has no suffix.
_HAM10000 = "HAM10000_metadata"
_NOT_A_PHOTOGRAPH = {"altered", "synthetic"}
# The order in which a group is named after what it holds: patients stay what they are when images come in.
_ORDER = (*KINDS, "image")
_NON_COMMERCIAL = "NC"


def read_isic(config: DataConfig) -> RecordSet:
    """Records labelled benign or malignant (or as data.label_column says), grouped by patient, lesion, case, named duplicates.

    `extra` has age, sex, site, skin_type, licence, attribution and the rest of columns.FIELDS where they are known.
    Left out and counted: what the config's policies say. Left out by name: what has no file, and what contradicts itself.
    Raises UserError, in a few lines, if there are no images or no table.
    """
    root = Path(config.path).expanduser()
    if not config.path or not root.exists():
        raise UserError(_how_to_get(config.path, "images"))
    files, litter, doubled = _find_images(root if root.is_dir() else root.parent)
    tables = _find_tables(root)
    if not files or not tables:
        raise UserError(_how_to_get(config.path, "tables" if files else "images"))
    joined = join_tables(tables)
    left_out, policy = list(joined.left_out), Counter[str]()
    refused = {item.id for item in left_out}
    policy["no row in any table"] = sum(id_ not in joined.rows and id_ not in refused for id_ in files)
    records: list[Record] = []
    for id_, row in sorted(joined.rows.items()):
        judged = _judge(row, config)
        if judged.policy:
            policy[judged.policy] += 1
        elif judged.wrong or id_ not in files:
            left_out.append(LeftOut(id_, judged.wrong or "no such file, perhaps the download was cut short"))
        else:
            extra = {name: value for name in FIELDS if (value := field(row, name))}
            records.append(Record(id_, judged.label, id_, files[id_], extra))
    records, contradicting = _without_contradictions(records)
    left_out += contradicting
    if not records:
        if not set(files) & {*joined.rows, *refused}:
            named, written = min(files), min({*joined.rows, *refused}, default="none")
            raise UserError(
                f"isic: no image of {root} has a row in its tables: files are called like {named!r}, ids like {written!r};"
                " make them the same, or put the right table there"
            )
        reason, n = (policy + Counter(item.reason for item in left_out)).most_common(1)[0]
        raise UserError(f"isic: no image of {root} is left; most often: {reason} ({n} images); see the data.isic_* keys")
    groups = _groups(joined)
    records = [record._replace(group=groups[f"image:{record.id}"]) for record in records]
    notes = (
        *joined.notes,
        *(Note(f"{n} images: {reason}", "left out", (), (reason, n)) for reason, n in policy.most_common() if n),
        Note("hidden, system and unfinished files", "skipped", tuple(litter)),
        Note("more than one file for one id", "the first by name is used", tuple(doubled)),
        *_notes_on_groups(records),
        *_rights(records),
    )
    kept = tuple(note for note in notes if note.ids or note.found[:1].isdigit())
    return RecordSet(config.name or "ISIC", tuple(records), tuple(left_out), kept)


def _find_images(root: Path) -> tuple[dict[str, Path], list[str], list[str]]:
    """id -> file; files skipped; second files of an id."""
    files: dict[str, Path] = {}
    litter, doubled = [], []
    for place, inner, names in walk(root):
        inner[:] = [name for name in inner if not is_litter(name)]
        for name in names:
            path = Path(place, name)
            relative = printable(path.relative_to(root).as_posix())
            if is_litter(name):
                litter.append(relative)
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                if path.stem in files:
                    doubled.append(relative)
                files.setdefault(path.stem, path)
    return files, litter, doubled


def _find_tables(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    folders = [folder for folder in (root, root / "metadata") if folder.is_dir()]
    files = (path for folder in folders for path in folder.iterdir() if not is_litter(path.name))
    return sorted(path for path in files if path.suffix.lower() in _TABLES or path.name == _HAM10000)


class _Judged(NamedTuple):
    """label, or why not: by a policy of the config (counted), or because something is wrong (named)."""

    label: str = ""
    policy: str = ""
    wrong: str = ""


def _judge(row: Mapping[str, str], config: DataConfig) -> _Judged:
    image_type, manipulation, confirmed = (field(row, name) for name in ("image_type", "manipulation", "confirmed_by"))
    if manipulation.lower() in _NOT_A_PHOTOGRAPH:
        return _Judged(policy=f"image_manipulation is {manipulation}")
    allowed = {name.lower() for name in config.isic_image_types}
    if allowed and image_type and image_type.lower() not in allowed:
        return _Judged(policy=f"image_type is {image_type} (data.isic_image_types)")
    if config.isic_confirm_types and confirmed.lower() not in {name.lower() for name in config.isic_confirm_types}:
        return _Judged(policy=f"confirmed by {confirmed or 'nothing stated'} (data.isic_confirm_types)")
    if config.label_column != "label":
        label = row.get(plain(config.label_column), "")
        return _Judged(label, "" if label else f"nothing in column {config.label_column}")
    label, wrong = diagnosis(row)
    if wrong:
        return _Judged(wrong=wrong)
    if not label:
        return _Judged(BENIGN) if config.isic_unlabelled == "benign" else _Judged(policy="no diagnosis (data.isic_unlabelled)")
    if label == INDETERMINATE:
        label = {"benign": BENIGN, "malignant": MALIGNANT, "own_class": INDETERMINATE}.get(config.isic_indeterminate, "")
    return _Judged(label, "" if label else "diagnosis is Indeterminate (data.isic_indeterminate)")


def _without_contradictions(records: list[Record]) -> tuple[list[Record], list[LeftOut]]:
    """A lesion that is benign in one image and malignant in another has a wrong label somewhere: none of its images is used."""
    labels = defaultdict(set)
    for record in records:
        if lesion := record.extra.get("lesion"):
            labels[lesion].add(record.label)
    wrong = {lesion: " and ".join(sorted(found)) for lesion, found in labels.items() if len(found) > 1}
    kept = [record for record in records if record.extra.get("lesion") not in wrong]
    left_out = [
        LeftOut(record.id, f"lesion {lesion} is {wrong[lesion]} in different images", "of lesions with different labels")
        for record in records
        if (lesion := record.extra.get("lesion", "")) in wrong
    ]
    return kept, left_out


def _groups(joined: Joined) -> dict[str, str]:
    """`image:ID` -> its connected component over patient, lesion and case; images that are left out link as well."""
    return join_groups(joined.links, lambda name: (_ORDER.index(name.partition(":")[0]), name))


def _notes_on_groups(records: Sequence[Record]) -> list[Note]:
    patients: dict[str, set[str]] = defaultdict(set)
    for record in records:
        if "lesion" in record.extra and "patient" in record.extra:
            patients[record.extra["lesion"]].add(record.extra["patient"])
    shared = tuple(lesion for lesion, owners in patients.items() if len(owners) > 1)
    alone = sum(record.group.startswith("image:") for record in records)
    anonymous = sum(record.group.startswith(("lesion:", "case:")) for record in records)
    notes = [Note("lesions of more than one patient", "their patients form one group", shared)]
    if alone:
        done = "each is a group of its own; nothing says who shares a patient"
        notes.append(Note(f"{alone} images with neither patient nor lesion nor case", done, ()))
    if anonymous:
        done = "grouped by that; lesions of one patient may be parted"
        notes.append(Note(f"{anonymous} images with a lesion or case but no patient", done, ()))
    return notes


def _rights(records: Sequence[Record]) -> list[Note]:
    """A note for each licence, by name where it limits the use, and one for whom to thank."""
    of_licence: dict[str, list[str]] = defaultdict(list)
    for record in records:
        of_licence[record.extra.get("licence", "no stated licence")].append(record.id)
    notes = []
    for licence, ids in sorted(of_licence.items()):
        limited = _NON_COMMERCIAL in licence
        limits = ": not for commercial use, and what is trained on them may inherit that" if limited else ""
        notes.append(Note(f"{len(ids)} images under {licence}", f"used{limits}", tuple(ids) if limited else ()))
    owners = Counter(record.extra["attribution"] for record in records if "attribution" in record.extra)
    if owners:
        names = "; ".join(f"{name} ({n})" for name, n in owners.most_common())
        notes.append(Note(f"{owners.total()} images are by {names}", "name them where you publish", ()))
    return notes


def _how_to_get(path: str, lacking: str) -> str:
    """What to do without data, in a few lines."""
    where = path or "DIR"
    return "\n".join(
        (
            f"isic: data.path is {path!r}, where there are no {lacking}. To get some (all: unpack the archive's snapshot zip;"
            " challenge data: put images and CSV tables into one folder), and then a study:",
            "  pipx install isic-cli        # by the ISIC archive; needs Python 3.12",
            f"  isic image download --search 'image_type:dermoscopic' --limit 5000 {where}",
            f"  python -m fteng.main --config=configs/isic.py --config.data.path={where} --workdir=runs/isic",
        )
    )
