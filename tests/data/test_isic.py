import csv
from pathlib import Path

import numpy as np
import pytest
from isic_folder import Traps, make
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from fteng.config import DataConfig
from fteng.data.isic.archive import read_isic
from fteng.data.isic.columns import diagnosis
from fteng.data.pixels import Resampling
from fteng.data.prepare import Dataset, prepare
from fteng.data.records import RecordSet
from fteng.errors import UserError

BICUBIC = Resampling("bicubic")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Traps]:
    root = tmp_path_factory.mktemp("isic") / "download"
    return root, make(root)


def config(root: Path, **keys: object) -> DataConfig:
    return DataConfig(**{"source": "isic", "path": str(root), "image_size": 32, "duplicates": "near", **keys})  # pyright: ignore


def quiet(done: int, total: int) -> None:
    assert done <= total


def note(source: RecordSet, start: str) -> tuple[str, ...]:
    return next(note.ids for note in source.notes if note.found.startswith(start))


def test_every_trap_is_found(folder: tuple[Path, Traps]):
    root, traps = folder
    source = read_isic(config(root))
    left_out = {item.id: item.reason for item in source.left_out}
    assert left_out == {
        traps.no_file: "no such file, perhaps the download was cut short",
        traps.repeated_disagreeing: "its rows in metadata.csv disagree on diagnosis_1",
        **dict.fromkeys(traps.contradicting_lesion, "lesion IL_8000001 is benign and malignant in different images"),
    }
    assert {note.found for note in source.notes if note.done == "left out"} == {
        "1 images: diagnosis is Indeterminate (data.isic_indeterminate)",
        "1 images: no diagnosis (data.isic_unlabelled)",
        "1 images: image_type is clinical: close-up (data.isic_image_types)",
        "1 images: image_manipulation is altered",
        "1 images: image_manipulation is synthetic",
        "1 images: no row in any table",
    }
    assert note(source, "hidden") == (".isic-partial.4711.abcdefgh",)
    assert set(note(source, "ids with more than one row")) == {traps.repeated_agreeing, traps.repeated_disagreeing}
    assert note(source, "lesions of more than one patient") == ("IL_8000002",)
    assert set(note(source, "3 images under CC-BY-NC")) == set(traps.non_commercial)
    (owners,) = [note.found for note in source.notes if "images are by" in note.found]
    assert "Universität Nirgendwo" in owners
    assert "Anonymous (1)" in owners
    records = {record.id: record for record in source.records}
    assert set(traps.usable) < set(records)
    out = {traps.indeterminate, traps.unlabelled, traps.clinical, traps.altered, traps.synthetic, traps.no_row, *left_out}
    assert not out & set(records)
    assert {records[id_].label for id_ in traps.usable} == {"benign", "malignant"}
    assert records[traps.usable[0]].group == "patient:IP_0000000"
    assert records[traps.usable[0]].extra["site"] == "Trunk"
    assert records[traps.non_commercial[0]].extra["licence"] == "CC-BY-NC"
    assert len({records[id_].group for id_ in traps.lesion_of_two_patients}) == 1
    assert {records[id_].group for id_ in traps.same_case} == {"case:RCM_1"}
    assert records[traps.same_case[1]].extra.get("image_type", "") == ""


def test_copies_and_unreadable_files_are_found_in_the_pixels(folder: tuple[Path, Traps]):
    root, traps = folder
    dataset = prepare(config(root), BICUBIC, quiet)
    group_of = dict(zip(dataset.ids.tolist(), dataset.groups.tolist(), strict=True))
    for pair in (traps.identical, traps.near_identical):
        assert group_of[pair[0]] == group_of[pair[1]]
    notes = {note["found"]: note["ids"] for note in dataset.report["notes"]}
    assert notes["identical images"] == [" = ".join(traps.identical)]
    assert notes["nearly identical images"] == [" = ".join(traps.near_identical)]
    assert "truncated" in {item["id"]: item["reason"] for item in dataset.report["left_out"]}[traps.truncated]
    assert dataset.extra["sex"][0] in ("female", "male")
    for rows in dataset.splits.values():
        inside = set(dataset.groups[rows].tolist())
        outside = set(np.delete(dataset.groups, rows).tolist())
        assert not inside & outside
    again = prepare(config(root), BICUBIC, lambda *_: pytest.fail("worked again"))
    assert again.digest == dataset.digest


def score(dataset: Dataset, train: np.ndarray, test: np.ndarray) -> float:
    pixels = np.asarray(dataset.images).reshape(len(dataset.ids), -1) / 255.0
    model = LogisticRegression(C=0.01, max_iter=300).fit(pixels[train], dataset.labels[train])
    return float(roc_auc_score(dataset.labels[test], model.decision_function(pixels[test])))


def test_a_split_by_image_flatters_and_a_split_by_patient_does_not(folder: tuple[Path, Traps]):
    dataset = prepare(config(folder[0]), BICUBIC, quiet)
    train, test = dataset.splits["train"], dataset.splits["test"]
    order = np.random.default_rng(0).permutation(np.concatenate([train, test]))
    assert score(dataset, order[: len(train)], order[len(train) :]) > 0.9
    assert score(dataset, train, test) < 0.75


def test_policies(folder: tuple[Path, Traps]):
    root, traps = folder
    labels = {record.id: record.label for record in read_isic(config(root, isic_indeterminate="own_class")).records}
    assert labels[traps.indeterminate] == "indeterminate"
    labels = {record.id: record.label for record in read_isic(config(root, isic_unlabelled="benign")).records}
    assert labels[traps.unlabelled] == "benign"
    types = ("dermoscopic", "clinical: close-up")
    assert traps.clinical in {record.id for record in read_isic(config(root, isic_image_types=types)).records}
    labels = {record.id: record.label for record in read_isic(config(root, label_column="anatom_site_1")).records}
    assert set(labels.values()) == {"Trunk"}
    with pytest.raises(UserError, match=r"no image of .* is left; most often: confirmed by nothing stated"):
        read_isic(config(root, isic_confirm_types=("histopathology",)))


@pytest.mark.parametrize(
    ("row", "label", "wrong"),
    [
        ({"diagnosis_1": "Malignant"}, "malignant", ""),
        ({"diagnosis_1": "", "benign_malignant": "indeterminate/benign"}, "indeterminate", ""),
        ({"benign_malignant": "benign", "target": "0"}, "benign", ""),
        ({"target": "1.0"}, "malignant", ""),
        ({"target": "7"}, "", "target is '7'"),
        ({"diagnosis_1": "Benign", "target": "1"}, "", "contradicts itself: diagnosis_1 says benign, target says malignant"),
        ({"diagnosis_1": "Indeterminate", "benign_malignant": "malignant"}, "indeterminate", ""),
        ({"diagnosis_1": "nevus"}, "", "diagnosis_1 is 'nevus'"),
        ({"melanoma": "0.0", "seborrheic_keratosis": "1.0"}, "benign", ""),
        ({"melanoma": "1.0", "seborrheic_keratosis": "0.0"}, "malignant", ""),
        ({"mel": "0.0", "nv": "0.0", "ak": "1.0"}, "indeterminate", ""),
        ({"mel": "0.0", "nv": "1.0", "scc": "0.0"}, "benign", ""),
        ({"mel": "0.0", "nv": "0.0", "unk": "1.0"}, "", ""),
        ({"mel": "1.0", "nv": "1.0"}, "", "do not say one class"),
        ({"melanoma": "nan", "seborrheic_keratosis": "0.0"}, "", "do not say one class"),
        ({"mel": "0.7", "nv": "0.3"}, "", "do not say one class"),
        ({"dx": "bcc"}, "malignant", ""),
        ({"dx": "nv", "target": ""}, "benign", ""),
        ({"sex": "male"}, "", ""),
    ],
)
def test_labels_of_all_years(row: dict[str, str], label: str, wrong: str):
    found = diagnosis(row)
    assert found.label == label
    assert wrong in found.wrong
    assert bool(wrong) == bool(found.wrong)


def challenge(root: Path, tables: dict[str, list[list[str]]], images: list[str]) -> DataConfig:
    (root / "images").mkdir(parents=True)
    for name, rows in tables.items():
        with (root / name).open("w", newline="") as file:
            csv.writer(file, lineterminator="\r\n").writerows(rows)
    for id_ in images:
        (root / "images" / f"{id_}.jpg").write_bytes(b"not decoded here")
    return config(root)


def labels_and_groups(source: RecordSet) -> dict[str, tuple[str, str]]:
    return {record.id: (record.label, record.group) for record in source.records}


def test_2016_has_no_head(tmp_path: Path):
    rows = [["ISIC_0000000", "benign"], ["ISIC_0000001", "malignant"]]
    found = read_isic(challenge(tmp_path, {"ISBI2016_ISIC_Part3_Training_GroundTruth.csv": rows}, ["ISIC_0000000", "ISIC_0000001"]))
    assert [record.label for record in found.records] == ["benign", "malignant"]


def test_2019_joins_labels_and_lesions_of_two_tables(tmp_path: Path):
    tables = {
        "ISIC_2019_Training_GroundTruth.csv": [
            ["image", "MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK"],
            ["ISIC_0000000", *"100000000"],
            ["ISIC_0000002_downsampled", *"001000000"],
        ],
        "ISIC_2019_Training_Metadata.csv": [
            ["image", "age_approx", "anatom_site_general", "lesion_id", "sex"],
            ["ISIC_0000000", "55", "torso", "MSK4_0011169", ""],
            ["ISIC_0000002_downsampled", "", "", "MSK4_0011169", "female"],
        ],
    }
    source = read_isic(challenge(tmp_path, tables, ["ISIC_0000000", "ISIC_0000002_downsampled"]))
    assert [record.label for record in source.records] == ["malignant", "malignant"]
    assert {record.group for record in source.records} == {"lesion:MSK4_0011169"}
    assert source.records[0].extra == {"lesion": "MSK4_0011169", "age": "55", "site": "torso"}


def test_2020_names_duplicates_in_a_table_of_its_own(tmp_path: Path):
    head = [
        "image_name",
        "patient_id",
        "sex",
        "age_approx",
        "anatom_site_general_challenge",
        "diagnosis",
        "benign_malignant",
        "target",
    ]
    tables = {
        "ISIC_2020_Training_GroundTruth.csv": [
            head,
            ["ISIC_0000000", "IP_1", "male", "45.0", "torso", "unknown", "benign", "0"],
            ["ISIC_0000001", "IP_2", "male", "45.0", "torso", "melanoma", "malignant", "1"],
            ["ISIC_0000002", "IP_3", "male", "45.0", "torso", "unknown", "benign", "0"],
        ],
        "ISIC_2020_Training_Duplicates.csv": [["image_name_1", "image_name_2"], ["ISIC_0000000", "ISIC_0000002"]],
    }
    found = labels_and_groups(read_isic(challenge(tmp_path, tables, [f"ISIC_000000{i}" for i in range(3)])))
    assert found == {
        "ISIC_0000000": ("benign", "patient:IP_1"),
        "ISIC_0000001": ("malignant", "patient:IP_2"),
        "ISIC_0000002": ("benign", "patient:IP_1"),
    }


def test_ham10000_and_the_archive_agree_on_who_is_who(tmp_path: Path):
    tables = {
        "HAM10000_metadata": [
            ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"],
            ["HAM_0000118", "ISIC_0027419", "bkl", "histo", "80.0", "male", "scalp"],
            ["HAM_0000118", "ISIC_0025030", "bkl", "histo", "80.0", "male", "scalp"],
            ["HAM_0000119", "ISIC_0025031", "mel", "histo", "80.0", "male", "scalp"],
        ],
        "metadata.csv": [
            ["isic_id", "diagnosis_1", "lesion_id", "age_approx"],
            ["ISIC_0027419", "Benign", "IL_0000001", "75"],
            ["ISIC_0025031", "Benign", "IL_0000002", "80"],
        ],
    }
    source = read_isic(challenge(tmp_path, tables, ["ISIC_0027419", "ISIC_0025030", "ISIC_0025031"]))
    assert {group for _, group in labels_and_groups(source).values()} == {"lesion:HAM_0000118"}
    (contradiction,) = source.left_out
    assert contradiction[:2] == ("ISIC_0025031", "contradicts itself: diagnosis_1 says benign, dx says malignant")


def test_an_image_that_is_left_out_still_links(tmp_path: Path):
    rows = [
        ["isic_id", "patient_id", "lesion_id", "diagnosis_1"],
        ["ISIC_0000001", "IP_1", "", "Benign"],
        ["ISIC_0000002", "IP_1", "IL_1", "Indeterminate"],
        ["ISIC_0000003", "", "IL_1", "Benign"],
    ]
    found = labels_and_groups(read_isic(challenge(tmp_path, {"metadata.csv": rows}, [f"ISIC_000000{i}" for i in (1, 2, 3)])))
    assert found == dict.fromkeys(("ISIC_0000001", "ISIC_0000003"), ("benign", "patient:IP_1"))


def test_a_group_keeps_its_name_when_images_of_the_patient_come_in(tmp_path: Path):
    tables = {"metadata.csv": [["isic_id", "patient_id", "diagnosis_1"], ["ISIC_0000005", "IP_1", "Benign"]]}
    before = labels_and_groups(read_isic(challenge(tmp_path / "a", tables, ["ISIC_0000005"])))
    tables["metadata.csv"] += [["ISIC_0000001", "IP_1", "Benign"]]
    after = labels_and_groups(read_isic(challenge(tmp_path / "b", tables, ["ISIC_0000005", "ISIC_0000001"])))
    assert after["ISIC_0000005"] == before["ISIC_0000005"]


def test_without_data_it_says_how_to_get_them(tmp_path: Path):
    for path in ("", str(tmp_path / "nowhere"), str(tmp_path)):
        with pytest.raises(UserError, match=r"isic image download") as caught:
            read_isic(config(Path(path)) if path else DataConfig(source="isic"))
        assert len(str(caught.value).splitlines()) <= 6
        assert "--config.data.path=" in str(caught.value)
    (tmp_path / "ISIC_0000000.jpg").touch()
    with pytest.raises(UserError, match=r"no tables"):
        read_isic(config(tmp_path))
    (tmp_path / "x.csv").write_text("name,label\na,b\n")
    with pytest.raises(UserError, match=r"no column isic_id, image_name, image_id, image, it has name, label"):
        read_isic(config(tmp_path))


def test_one_malignant_image_is_too_few(tmp_path: Path):
    rows = [["isic_id", "diagnosis_1"], *([f"ISIC_000000{i}", "Malignant" if i == 0 else "Benign"] for i in range(9))]
    made = challenge(tmp_path, {"metadata.csv": rows}, [])
    for i in range(9):
        noise = np.random.default_rng(i).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "images" / f"ISIC_000000{i}.png")
    with pytest.raises(UserError, match=r"class 'malignant' has 1 group"):
        prepare(made, BICUBIC, quiet)


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".jpeg", ".png"])
def test_ids_may_be_written_as_names_of_files(tmp_path: Path, suffix: str):
    tables = {
        "metadata.csv": [
            ["isic_id", "diagnosis_1"],
            [f"ISIC_0000001{suffix}", "Benign"],
            [f"images/ISIC_0000002{suffix}", "Malignant"],
        ],
        "ISIC_2020_Training_Duplicates.csv": [
            ["image_name_1", "image_name_2"],
            [f"ISIC_0000001{suffix}", f"ISIC_0000002{suffix}"],
        ],
    }
    found = labels_and_groups(read_isic(challenge(tmp_path, tables, ["ISIC_0000001", "ISIC_0000002"])))
    assert found == {"ISIC_0000001": ("benign", "image:ISIC_0000001"), "ISIC_0000002": ("malignant", "image:ISIC_0000001")}


def test_strangers_are_not_one_patient_called_nan(tmp_path: Path):
    rows = [["isic_id", "patient_id", "lesion_id", "diagnosis_1"]]
    rows += [[f"ISIC_000000{i}", word, "unknown", "Benign"] for i, word in enumerate(("nan", "NA", "None", "unknown", "IP_1"))]
    found = labels_and_groups(read_isic(challenge(tmp_path, {"metadata.csv": rows}, [row[0] for row in rows[1:]])))
    assert [group for _, group in found.values()] == [*(f"image:ISIC_000000{i}" for i in range(4)), "patient:IP_1"]


def test_rows_that_contradict_each_other_still_say_who_belongs_together(tmp_path: Path):
    rows = [
        ["isic_id", "patient_id", "lesion_id", "diagnosis_1"],
        ["ISIC_0000001", "IP_1", "", "Benign"],
        ["ISIC_0000002", "IP_1", "IL_1", "Benign"],
        ["ISIC_0000002", "IP_1", "IL_1", "Malignant"],
        ["ISIC_0000003", "", "IL_1", "Benign"],
    ]
    source = read_isic(challenge(tmp_path, {"metadata.csv": rows}, [f"ISIC_000000{i}" for i in (1, 2, 3)]))
    assert labels_and_groups(source) == dict.fromkeys(("ISIC_0000001", "ISIC_0000003"), ("benign", "patient:IP_1"))
    assert [item.id for item in source.left_out] == ["ISIC_0000002"]


def test_tables_that_write_one_number_in_two_ways_agree(tmp_path: Path):
    tables = {
        "a.csv": [["isic_id", "target", "age_approx"], ["ISIC_0000001", "1", "80"]],
        "b.csv": [["isic_id", "target", "age_approx"], ["ISIC_0000001", "1.0", "80.0"]],
    }
    source = read_isic(challenge(tmp_path, tables, ["ISIC_0000001"]))
    assert [record.label for record in source.records] == ["malignant"]
    assert not [note for note in source.notes if "differently" in note.found]


def test_what_does_not_fit_together_is_one_line(tmp_path: Path):
    lower = challenge(tmp_path / "lower", {"m.csv": [["isic_id", "target"], ["ISIC_0000001", "1"]]}, ["isic_0000001"])
    with pytest.raises(UserError, match=r"files are called like 'isic_0000001', ids like 'ISIC_0000001'"):
        read_isic(lower)
    twice = challenge(tmp_path / "twice", {"m.csv": [["isic_id", "Sex", "sex"], ["ISIC_0000001", "m", "f"]]}, ["ISIC_0000001"])
    with pytest.raises(UserError, match=r"column 'sex' stands twice \(in upper and lower case\)"):
        read_isic(twice)
    # A file name that is no UTF-8, among those that get named.
    Path(f"{tmp_path / 'twice'}/.\udcff.jpg").write_bytes(b"x")
    (tmp_path / "twice" / "m.csv").write_text("isic_id,target\nISIC_0000001,1\n")
    assert note(read_isic(twice), "hidden") == (".\\udcff.jpg",)
