"""What the columns of ISIC tables mean, from the archive of today back to the challenges of 2016.

Sources: the archive's `metadata.csv` (isic-cli 12); ISBI 2016 and 2017 part 3; ISIC 2018 task 3; training tables of ISIC 2019
and 2020; HAM10000 (Tschandl et al. 2018, doi 10.1038/sdata.2018.161).
"""

from collections.abc import Mapping
from typing import NamedTuple

from fteng.data.groups import owner

BENIGN, MALIGNANT, INDETERMINATE = "benign", "malignant", "indeterminate"

IDS = ("isic_id", "image_name", "image_id", "image")
# Who owns an image, the largest first.
KINDS = ("patient", "lesion", "case")
# What we call it, and the columns it may stand in, the best first.
FIELDS = {
    "patient": ("patient_id",),
    "lesion": ("lesion_id",),
    "case": ("rcm_case_id",),
    "age": ("age_approx", "age"),
    "sex": ("sex",),
    "site": ("anatom_site_general", "anatom_site_1", "anatom_site_general_challenge", "localization"),
    "skin_type": ("fitzpatrick_skin_type",),
    "image_type": ("image_type",),
    "manipulation": ("image_manipulation",),
    "confirmed_by": ("diagnosis_confirm_type", "dx_type"),
    "licence": ("copyright_license",),
    "attribution": ("attribution",),
}

_WORDS = {
    "benign": BENIGN,
    "malignant": MALIGNANT,
    "indeterminate": INDETERMINATE,
    "indeterminate/benign": INDETERMINATE,
    "indeterminate/malignant": INDETERMINATE,
}
_NUMBERS = {0.0: BENIGN, 1.0: MALIGNANT}
# Actinic keratosis (HAM10000 puts Bowen's disease with it) is Indeterminate in the archive's own hierarchy of diagnoses.
_DX = {
    "akiec": INDETERMINATE,
    "bcc": MALIGNANT,
    "bkl": BENIGN,
    "df": BENIGN,
    "mel": MALIGNANT,
    "nv": BENIGN,
    "vasc": BENIGN,
}
_ONE_HOT = _DX | {"ak": INDETERMINATE, "scc": MALIGNANT, "unk": ""}
# Columns that diagnosis reads: tables that fill them differently contradict each other.
LABELS = frozenset({"diagnosis_1", "benign_malignant", "target", "melanoma", "seborrheic_keratosis", "dx", *_ONE_HOT})


class Diagnosis(NamedTuple):
    """label: benign, malignant, indeterminate, or empty if nothing says; wrong: why the row says nothing usable, or empty."""

    label: str
    wrong: str = ""


def plain(column: str) -> str:
    """A column name as it is compared: lower case, underscores."""
    return column.strip().lower().replace(" ", "_").replace("-", "_")


def field(row: Mapping[str, str], name: str) -> str:
    """The first non-empty cell of a field, or empty; so is a patient, lesion or case called `nan` or `unknown`."""
    cells = (owner(row.get(column, "")) if name in KINDS else row.get(column, "") for column in FIELDS[name])
    return next(filter(None, cells), "")


def owners(row: Mapping[str, str]) -> list[str]:
    """`patient:NAME`, `lesion:NAME` and `case:NAME`, as far as the row names them."""
    return [f"{kind}:{name}" for kind in KINDS if (name := field(row, kind))]


def diagnosis(row: Mapping[str, str]) -> Diagnosis:
    """What all columns of a row (with `plain` names) say of the lesion together.

    The order is that of trust: diagnosis_1, benign_malignant, target, one-hot columns, dx. An Indeterminate of the archive
    stands against an older table's benign or malignant; benign against malignant is a contradiction.
    """
    found: dict[str, str] = {}
    for column in ("diagnosis_1", "benign_malignant"):
        if word := row.get(column, "").lower():
            if word not in _WORDS:
                return Diagnosis("", f"{column} is {row[column]!r}, none of benign, malignant, indeterminate")
            found[column] = _WORDS[word]
    if row.get("target"):
        number = _number(row["target"])
        if number not in _NUMBERS:
            return Diagnosis("", f"target is {row['target']!r}, neither 0 nor 1")
        found["target"] = _NUMBERS[number]
    hot = _one_hot(row)
    if hot is None:
        return Diagnosis("", "its one-hot columns do not say one class")
    if hot:
        found["one-hot columns"] = hot
    if dx := row.get("dx", "").lower():
        if dx not in _DX:
            return Diagnosis("", f"dx is {row['dx']!r}, none of {', '.join(_DX)}")
        found["dx"] = _DX[dx]
    if {BENIGN, MALIGNANT} <= set(found.values()):
        return Diagnosis("", "contradicts itself: " + ", ".join(f"{column} says {label}" for column, label in found.items()))
    return Diagnosis(next(iter(found.values()), ""))


def _one_hot(row: Mapping[str, str]) -> str | None:
    """The label of 2017's two columns or of 2018's and 2019's seven to nine; empty without such columns; None if unclear."""
    if "melanoma" in row and "seborrheic_keratosis" in row:
        values = [_number(row["melanoma"]), _number(row["seborrheic_keratosis"])]
        if not set(values) <= {0.0, 1.0} or values == [1.0, 1.0]:
            return None
        return MALIGNANT if values[0] else BENIGN
    cells = {name: row[name] for name in _ONE_HOT if name in row}
    if not {"mel", "nv"} <= set(cells) or not any(cells.values()):
        return ""
    numbers = {name: _number(cell) for name, cell in cells.items()}
    hot = [name for name, number in numbers.items() if number == 1]
    # Shares between 0 and 1 are somebody's predictions, not labels.
    if len(hot) > 1 or not set(numbers.values()) <= {0.0, 1.0}:
        return None
    return _ONE_HOT[hot[0]] if hot else ""


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
