import dataclasses
import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest
from isic_folder import make
from PIL import Image

from fteng.config import DataConfig
from fteng.data.idx import read_idx
from fteng.data.pixels import Resampling
from fteng.data.prepare import prepare
from fteng.data.stored import read_stored
from fteng.errors import UserError

BICUBIC = Resampling("bicubic")


def quiet(done: int, total: int) -> None:
    assert done <= total


def test_the_isic_builder_hands_on_what_the_folder_says(tmp_path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tensorflow-datasets itself warns on import
        from fteng.data.isic.builder import build

    traps = make(tmp_path / "isic", patients=12)
    direct = DataConfig(source="isic", path=str(tmp_path / "isic"), image_size=32, cache_dir=str(tmp_path / "cache"))
    build(direct, tmp_path / "tfds")
    stored = DataConfig(
        source="tfds", name="isic_archive", path=str(tmp_path / "tfds"), image_size=32, cache_dir=str(tmp_path / "cache")
    )
    one, two = (prepare(config, BICUBIC, quiet) for config in (direct, stored))
    order = {id_: row for row, id_ in enumerate(two.ids.tolist())}
    rows = [order[id_] for id_ in one.ids.tolist()]
    assert len(rows) == len(two.ids)
    np.testing.assert_array_equal(two.images[rows], one.images)
    assert two.groups[rows].tolist() == one.groups.tolist()
    assert [two.classes[label] for label in two.labels[rows]] == [one.classes[label] for label in one.labels]
    assert two.extra["licence"][rows].tolist() == one.extra["licence"].tolist()
    assert {row: set(two.ids[part].tolist()) for row, part in two.splits.items()} == {
        row: set(one.ids[part].tolist()) for row, part in one.splits.items()
    }
    assert traps.truncated in {item["id"] for item in two.report["left_out"]}


def test_a_data_set_that_is_not_there_is_one_line(tmp_path: Path):
    config = DataConfig(source="tfds", name="cifar10", path=str(tmp_path))
    with pytest.raises(UserError, match=r"'cifar10' is not prepared in .*file_format='array_record'") as caught:
        read_stored(config)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"data.name is empty"):
        read_stored(DataConfig(source="tfds"))


def toy(root: Path) -> DataConfig:
    """A data set of four splits, one of which is none of ours, with a row that has no class."""
    import tensorflow_datasets as tfds

    class Toy(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=["cat", "dog"])}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            del dl_manager
            return {name: self._generate_examples(seed) for seed, name in enumerate(("train", "validation", "test", "extra"))}

        def _generate_examples(self, seed):
            for i in range(8):
                path = root / f"{seed}-{i}.png"
                Image.fromarray(np.random.default_rng([seed, i]).integers(0, 256, (9, 9, 3), np.uint8)).save(path)
                yield i, {"image": path, "label": -1 if (seed, i) == (0, 7) else i % 2}

    Toy(data_dir=root, file_format="array_record").download_and_prepare()
    return DataConfig(source="tfds", name="toy", path=str(root), image_size=8)


def test_splits_of_a_stored_data_set_are_kept(tmp_path: Path):
    config = toy(tmp_path)
    source = read_stored(config)
    assert [item.reason for item in source.left_out] == ["has no class"]
    (note,) = source.notes
    assert note.found == "split 'extra' of 8 images"
    dataset = prepare(config, BICUBIC, quiet)
    assert dataset.classes == ("cat", "dog")
    assert {name: len(rows) for name, rows in dataset.splits.items()} == {"train": 7, "val": 8, "test": 8}
    assert {id_.split("-")[0] for id_ in dataset.ids[dataset.splits["val"]].tolist()} == {"validation"}
    with pytest.raises(UserError, match=r"a ClassLabel called 'kind', it has image \(Image\), label \(ClassLabel\)"):
        read_stored(dataclasses.replace(config, label_column="kind"))


def test_a_format_that_needs_tensorflow_is_refused(tmp_path: Path):
    config = toy(tmp_path)
    (info,) = tmp_path.rglob("dataset_info.json")
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match=r"prepare it again with file_format='array_record'"):
        read_stored(config)


def write_idx(path: Path, values: np.ndarray) -> None:
    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
    path.write_bytes(gzip.compress(head + values.astype(np.uint8).tobytes()))


def idx_folder(root: Path, n: int = 60) -> DataConfig:
    root.mkdir()
    rng = np.random.default_rng(0)
    for prefix in ("train", "t10k"):
        write_idx(root / f"{prefix}-images-idx3-ubyte.gz", rng.integers(0, 256, (n, 28, 28)))
        write_idx(root / f"{prefix}-labels-idx1-ubyte.gz", np.arange(n) % 10)
    return DataConfig(source="idx", path=str(root), image_size=28)


def test_idx_files_bring_their_test_set(tmp_path: Path):
    config = idx_folder(tmp_path / "fashion-mnist")
    dataset = prepare(config, BICUBIC, quiet)
    assert dataset.name == "fashion-mnist"
    assert "t-shirt/top" in dataset.classes
    assert {id_.split("-")[0] for id_ in dataset.ids[dataset.splits["test"]].tolist()} == {"t10k"}
    assert {id_.split("-")[0] for id_ in dataset.ids[dataset.splits["val"]].tolist()} == {"train"}
    config.split_column = ""
    assert len(prepare(config, BICUBIC, quiet).splits["test"]) < 60


def test_copies_across_a_given_split_are_reported(tmp_path: Path):
    config = idx_folder(tmp_path / "mnist")
    for prefix in ("train", "t10k"):
        images = np.random.default_rng(prefix == "train").integers(0, 256, (60, 28, 28))
        images[0] = 7
        write_idx(tmp_path / "mnist" / f"{prefix}-images-idx3-ubyte.gz", images)
    notes = {note["found"]: note["ids"] for note in prepare(config, BICUBIC, quiet).report["notes"]}
    assert notes["copies of an image on both sides of the given split"] == ["train-00000", "t10k-00000"]


def test_broken_idx_files_are_one_line(tmp_path: Path):
    config = idx_folder(tmp_path / "mnist")
    labels = tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz"
    whole = labels.read_bytes()
    write_idx(labels, np.arange(59))
    with pytest.raises(UserError, match=r"60 images but 59 labels in t10k"):
        read_idx(config)
    labels.write_bytes(whole[:-12])
    with pytest.raises(UserError, match=r"no whole gzip file"):
        read_idx(config)
    labels.write_bytes(gzip.compress(b"hello"))
    with pytest.raises(UserError, match=r"no idx file of 1 dimension"):
        read_idx(config)
    labels.unlink()
    with pytest.raises(UserError, match=r"apt install dataset-fashion-mnist"):
        read_idx(config)


def people(root: Path, *, ids: int = 8) -> DataConfig:
    """A data set whose rows have a number for the patient, and so many different ids."""
    import tensorflow_datasets as tfds

    class People(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(),
                "label": tfds.features.ClassLabel(names=["cat", "dog"]),
                "patient": tfds.features.Scalar(np.int64),
                "id": tfds.features.Text(),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            del dl_manager
            return {"unsplit": self._generate_examples()}

        def _generate_examples(self):
            for i in range(8):
                path = root / f"{i}.png"
                Image.fromarray(np.full((9, 9, 3), i, np.uint8)).save(path)
                yield i, {"image": path, "label": i % 2, "patient": i // 4, "id": f"image-{i % ids}"}

    People(data_dir=root, file_format="array_record").download_and_prepare()
    return DataConfig(source="tfds", name="people", path=str(root), image_size=8, group_column="patient")


def test_a_number_may_say_which_patient_and_a_wrong_name_may_not(tmp_path: Path):
    config = people(tmp_path)
    found = {record.id: record.group for record in read_stored(config).records}
    assert found == {f"image-{i}": str(i // 4) for i in range(8)}
    with pytest.raises(UserError, match=r"no feature 'patent', it has id, image, label, patient; set data.group_column"):
        read_stored(dataclasses.replace(config, group_column="patent"))


def test_an_id_of_two_images_is_one_line(tmp_path: Path):
    with pytest.raises(UserError, match=r"more than one image with the id 'image-[0-3]'"):
        read_stored(people(tmp_path, ids=4))


def test_labels_that_are_not_fashion_mnists_are_one_line(tmp_path: Path):
    config = idx_folder(tmp_path / "fashion-like")
    write_idx(tmp_path / "fashion-like" / "train-labels-idx1-ubyte.gz", np.arange(60) % 12)
    with pytest.raises(UserError, match=r"a label is 11, Fashion-MNIST has 0 to 9; get the files anew, or rename"):
        read_idx(config)
    numbered = (tmp_path / "fashion-like").rename(tmp_path / "letters")
    assert "11" in {record.label for record in read_idx(dataclasses.replace(config, path=str(numbered))).records}
