"""A folder of ISIC images and tables as records: from `isic image download`, the archive's snapshot, or a challenge.

The folder holds tables (CSV or Parquet, at its top or in a `metadata` folder), and images called by their id at any depth.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from fteng.config import DataConfig
from fteng.data.folder import IMAGE_SUFFIXES, is_litter
from fteng.data.groups import join_groups
from fteng.data.isic.columns import BENIGN, FIELDS, INDETERMINATE, MALIGNANT, field, plain, verdict
from fteng.data.isic.tables import join_tables
from fteng.data.records import LeftOut, Note, Record, Source
from fteng.errors import UserError

_TABLES = {".csv", ".parquet"}
# Harvard's copy of the table has no suffix.
_HAM10000 = "HAM10000_metadata"
_NOT_A_PHOTOGRAPH = {"altered", "synthetic"}
# The order in which a group is named after what it holds: patients stay what they are when images come in.
_KINDS = ("patient", "lesion", "case", "image")
_NON_COMMERCIAL = "NC"


def read_isic(config: DataConfig) -> Source:
    """Records labelled benign or malignant (or as data.label_column says), grouped by patient, lesion, case, named duplicates.

    `extra` has age, sex, site, skin_type, licence, attribution and the rest of columns.FIELDS where they are known.
    Left out by name: what the config filters, what has no label, no file or no row, and what contradicts itself.
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
    left_out, notes = list(joined.left_out), list(joined.notes)
    refused = {item.id for item in left_out}
    left_out += [LeftOut(id_, "no row in any table") for id_ in files if id_ not in joined.rows and id_ not in refused]
    records: list[Record] = []
    for id_, row in sorted(joined.rows.items()):
        label, wrong = _judge(row, config)
        if id_ not in files:
            wrong = "no such file, perhaps the download was cut short"
        if wrong:
            left_out.append(LeftOut(id_, wrong))
            continue
        extra = {name: value for name in FIELDS if (value := field(row, name))}
        records.append(Record(id_, label, id_, files[id_], extra))
    records, contradicting = _without_contradictions(records)
    left_out += contradicting
    records, of_groups = _grouped(records, joined.links)
    found = (
        Note("hidden, system and unfinished files", "skipped", tuple(litter)),
        Note("more than one file for one id", "the first by name is used", tuple(doubled)),
    )
    notes += [*(note for note in found if note.ids), *of_groups, *_rights(records)]
    if not records:
        reasons = Counter(item.reason for item in left_out).most_common(1)[0]
        raise UserError(f"isic: no image of {root} is left; most often: {reasons[0]} ({reasons[1]} images); see data.isic_* keys")
    return Source(config.name or "ISIC", tuple(records), tuple(left_out), tuple(notes))


def _find_images(root: Path) -> tuple[dict[str, Path], list[str], list[str]]:
    """id -> file; files skipped; second files of an id."""
    files: dict[str, Path] = {}
    litter, doubled = [], []
    for place, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if not is_litter(name))
        for name in sorted(names):
            path = Path(place, name)
            relative = path.relative_to(root).as_posix()
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


def _judge(row: Mapping[str, str], config: DataConfig) -> tuple[str, str]:
    """(label, why it is left out or empty)."""
    image_type, manipulation, confirmed = (field(row, name) for name in ("image_type", "manipulation", "confirmed_by"))
    if manipulation.lower() in _NOT_A_PHOTOGRAPH:
        return "", f"image_manipulation is {manipulation}"
    allowed = {name.lower() for name in config.isic_image_types}
    if allowed and image_type and image_type.lower() not in allowed:
        return "", f"image_type is {image_type}, not {' or '.join(config.isic_image_types)}"
    if config.isic_confirm_types and confirmed.lower() not in {name.lower() for name in config.isic_confirm_types}:
        return "", f"confirmed by {confirmed or 'nothing stated'}, not {' or '.join(config.isic_confirm_types)}"
    if config.label_column != "label":
        label = row.get(plain(config.label_column), "")
        return label, "" if label else f"nothing in column {config.label_column}"
    label, wrong = verdict(row)
    if wrong:
        return "", wrong
    if not label:
        return (BENIGN, "") if config.isic_unlabelled == "benign" else ("", "no diagnosis; data.isic_unlabelled could change that")
    if label == INDETERMINATE:
        choices = {"benign": BENIGN, "malignant": MALIGNANT, "own_class": INDETERMINATE}
        label = choices.get(config.isic_indeterminate, "")
        return label, "" if label else "Indeterminate; data.isic_indeterminate could change that"
    return label, ""


def _without_contradictions(records: list[Record]) -> tuple[list[Record], list[LeftOut]]:
    """A lesion that is benign in one image and malignant in another has a wrong label somewhere: none of its images is used."""
    labels = defaultdict(set)
    for record in records:
        if lesion := record.extra.get("lesion"):
            labels[lesion].add(record.label)
    wrong = {lesion: " and ".join(sorted(found)) for lesion, found in labels.items() if len(found) > 1}
    kept = [record for record in records if record.extra.get("lesion") not in wrong]
    left_out = [
        LeftOut(record.id, f"lesion {lesion} is {wrong[lesion]} in different images")
        for record in records
        if (lesion := record.extra.get("lesion", "")) in wrong
    ]
    return kept, left_out


def _grouped(records: list[Record], more: Iterable[tuple[str, str]]) -> tuple[list[Record], list[Note]]:
    """Records with the connected component over patient, lesion, case and `more` links as their group."""
    links: list[tuple[str, ...]] = [
        (*(f"{kind}:{record.extra[kind]}" for kind in _KINDS if kind in record.extra), f"image:{record.id}") for record in records
    ]
    # A link through an image that is left out still links.
    group_of = join_groups([*links, *more], lambda name: (_KINDS.index(name.partition(":")[0]), name))
    grouped = [record._replace(group=group_of[f"image:{record.id}"]) for record in records]
    patients: dict[str, set[str]] = defaultdict(set)
    for record in grouped:
        if "lesion" in record.extra and "patient" in record.extra:
            patients[record.extra["lesion"]].add(record.extra["patient"])
    shared = tuple(lesion for lesion, owners in patients.items() if len(owners) > 1)
    alone = tuple(record.id for record in grouped if record.group.startswith("image:"))
    anonymous = tuple(r.id for r in grouped if "patient" not in r.extra and not r.group.startswith(("image:", "patient:")))
    found = (
        ("lesions of more than one patient", "their patients form one group", shared),
        (
            "images with neither patient nor lesion nor case",
            "each is a group of its own; nothing says who shares a patient",
            alone,
        ),
        ("images with a lesion or case but no patient", "grouped by that; lesions of one patient may be parted", anonymous),
    )
    return grouped, [Note(what, done, ids) for what, done, ids in found if ids]


def _rights(records: list[Record]) -> list[Note]:
    """A note for each licence, and one for whom to thank."""
    of_licence: dict[str, list[str]] = defaultdict(list)
    for record in records:
        of_licence[record.extra.get("licence", "not stated")].append(record.id)
    notes = []
    for licence, ids in sorted(of_licence.items()):
        limits = ": not for commercial use, and what is trained on them may inherit that" if _NON_COMMERCIAL in licence else ""
        notes.append(Note(f"licence {licence}", f"used{limits}", tuple(ids)))
    owners = Counter(record.extra["attribution"] for record in records if "attribution" in record.extra)
    if owners:
        names = "; ".join(f"{name} ({n})" for name, n in owners.most_common())
        notes.append(Note(f"images are by {names}", "name them where you publish", ()))
    return notes


def _how_to_get(path: str, lacking: str) -> str:
    """What to do without data, in a few lines."""
    where = path or "DIR"
    return "\n".join(
        (
            f"isic: data.path is {path!r}, where there are no {lacking}. To get them:",
            "  pipx install isic-cli        # by the ISIC archive; needs Python 3.12",
            f"  isic image download --search 'image_type:dermoscopic' --limit 5000 {where}",
            "  (all images: unpack the archive's snapshot zip; challenge data: put images and CSV tables into one folder)",
            f"Then: python -m fteng.main --config=configs/isic.py --config.data.path={where} --workdir=runs/isic",
        )
    )
