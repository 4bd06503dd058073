"""SYNTHETIC: a folder in the format of `isic image download`, with everything that goes wrong in real ones. Not one lesion is real.

Each image is a random smooth pattern that belongs to its patient, a little darker where the lesion is called malignant. So a split
by image lets a classifier know the patient again, and a split by patient does not: as with real photographs of one lesion.
"""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

_SIZE = (64, 48)
_COLUMNS: tuple[str, ...] = (
    "isic_id",
    "attribution",
    "copyright_license",
    "age_approx",
    "anatom_site_1",
    "diagnosis_1",
    "diagnosis_confirm_type",
    "image_manipulation",
    "image_type",
    "lesion_id",
    "patient_id",
    "rcm_case_id",
    "sex",
)


class Traps(NamedTuple):
    """Ids of what was planted. Pairs are (first, second)."""

    usable: list[str]
    indeterminate: str
    unlabelled: str
    clinical: str
    altered: str
    synthetic: str
    no_file: str
    no_row: str
    truncated: str
    repeated_agreeing: str
    repeated_disagreeing: str
    contradicting_lesion: tuple[str, str]
    lesion_of_two_patients: tuple[str, str]
    same_case: tuple[str, str]
    identical: tuple[str, str]
    near_identical: tuple[str, str]
    non_commercial: list[str]


class _Writer:
    """Images and rows as they come; ids count up."""

    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        self.folder, self.rng = folder, rng
        self.rows: list[dict[str, str]] = []
        self.count = 0

    def add(self, pattern: np.ndarray | None, **cells: str) -> str:
        """Write a row, and the image unless pattern is None; the id."""
        id_ = f"ISIC_{self.count:07d}"
        self.count += 1
        usual = {
            "attribution": "Universität Nirgendwo",
            "copyright_license": "CC-0",
            "diagnosis_1": "Benign",
            "image_type": "dermoscopic",
            "sex": "female" if self.count % 2 else "male",
            "age_approx": str(30 + 5 * (self.count % 10)),
            "anatom_site_1": "Trunk",
        }
        self.rows.append({"isic_id": id_} | usual | cells)
        if pattern is not None:
            self.image(id_, pattern, dark=self.rows[-1]["diagnosis_1"] == "Malignant")
        return id_

    def image(self, id_: str, pattern: np.ndarray, *, dark: bool = False) -> None:
        """Write an image of a pattern, with a view and noise of its own so that no two photographs are near copies."""
        view = 0.6 * (self.pattern() - 128)
        noise = self.rng.normal(0, 12, pattern.shape)
        pixels = np.clip(pattern + view + noise - (4 if dark else 0), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(self.folder / f"{id_}.jpg", quality=95)

    def pattern(self) -> np.ndarray:
        """(h, w, 3) float: the look of a patient."""
        coarse = self.rng.integers(40, 216, (5, 6, 3), np.uint8)
        return np.asarray(Image.fromarray(coarse).resize(_SIZE, Image.Resampling.BICUBIC)).astype(float)


def make(folder: Path, patients: int = 40, seed: int = 0) -> Traps:
    """Fill `folder`; patients with a usable history have one lesion each and four photographs of it."""
    folder.mkdir(parents=True)
    writer = _Writer(folder, np.random.default_rng(seed))
    usable = []
    for number in range(patients):
        look = writer.pattern()
        label = "Malignant" if number % 3 == 0 else "Benign"
        ids = {"patient_id": f"IP_{number:07d}", "lesion_id": f"IL_{number:07d}", "diagnosis_1": label}
        usable += [writer.add(look, **ids) for _ in range(4)]
    traps = _plant(writer, usable)
    with (folder / "metadata.csv").open("w", newline="", encoding="utf8") as file:
        table = csv.DictWriter(file, _COLUMNS, restval="")
        table.writeheader()
        table.writerows(writer.rows)
    (folder / "attribution.txt").write_text("Universität Nirgendwo\n\nAnonymous", encoding="utf8")
    (folder / "licenses").mkdir()
    for licence in ("CC-0", "CC-BY-NC"):
        (folder / "licenses" / f"{licence}.txt").write_text("the text of a licence")
    (folder / ".isic-partial.4711.abcdefgh").write_bytes(b"\xff\xd8\xff half of an image")
    return traps


def _plant(writer: _Writer, usable: list[str]) -> Traps:
    add, look = writer.add, writer.pattern
    agreeing = add(look())
    writer.rows.append(dict(writer.rows[-1]))
    disagreeing = add(look())
    writer.rows.append(writer.rows[-1] | {"diagnosis_1": "Malignant"})
    original = add(look(), patient_id="IP_9000001")
    twin = add(None, patient_id="IP_9000002")
    (writer.folder / f"{twin}.jpg").write_bytes((writer.folder / f"{original}.jpg").read_bytes())
    stored = add(look(), patient_id="IP_9000003")
    again = add(None)
    with Image.open(writer.folder / f"{stored}.jpg") as image:
        image.resize((96, 72)).save(writer.folder / f"{again}.jpg", quality=60)
    truncated = add(look())
    cut = writer.folder / f"{truncated}.jpg"
    cut.write_bytes(cut.read_bytes()[:700])
    stray = f"ISIC_{writer.count:07d}"
    writer.count += 1
    writer.image(stray, look())
    return Traps(
        usable=usable,
        indeterminate=add(look(), diagnosis_1="Indeterminate"),
        unlabelled=add(look(), diagnosis_1=""),
        clinical=add(look(), image_type="clinical: close-up"),
        altered=add(look(), image_manipulation="altered"),
        synthetic=add(look(), image_manipulation="synthetic"),
        no_file=add(None),
        no_row=stray,
        truncated=truncated,
        repeated_agreeing=agreeing,
        repeated_disagreeing=disagreeing,
        contradicting_lesion=(
            add(look(), lesion_id="IL_8000001"),
            add(look(), lesion_id="IL_8000001", diagnosis_1="Malignant"),
        ),
        lesion_of_two_patients=(
            add(look(), lesion_id="IL_8000002", patient_id="IP_8000001"),
            add(look(), lesion_id="IL_8000002", patient_id="IP_8000002"),
        ),
        same_case=(
            add(look(), rcm_case_id="RCM_1"),
            add(look(), rcm_case_id="RCM_1", image_type="", attribution="Anonymous"),
        ),
        identical=(original, twin),
        near_identical=(stored, again),
        non_commercial=[add(look(), copyright_license="CC-BY-NC") for _ in range(3)],
    )
