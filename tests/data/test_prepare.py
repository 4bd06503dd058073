import dataclasses
import errno
import os
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fteng.config import DataConfig
from fteng.data import pixels
from fteng.data.decode import decode
from fteng.data.pixels import Resampling
from fteng.data.prepare import prepare
from fteng.errors import UserError

BICUBIC = Resampling("bicubic")

RNG = np.random.default_rng(0)


def noise(path: Path, seed: int, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def folder(root: Path, n: int = 6) -> DataConfig:
    for label in ("a", "b"):
        for i in range(n):
            noise(root / "images" / label / f"{i}.png", seed=i + (label == "b") * 100)
    return DataConfig(path=str(root / "images"), image_size=16, cache_dir=str(root / "cache"))


def quiet(done: int, total: int) -> None:
    assert done <= total


def never(done: int, total: int) -> None:
    raise AssertionError(f"decoded again: {done} of {total}")


def test_the_second_run_decodes_nothing_and_sees_the_same(tmp_path: Path):
    config = folder(tmp_path)
    seen: list[tuple[int, int]] = []
    first = prepare(config, BICUBIC, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (12, 12)
    second = prepare(config, BICUBIC, never)
    assert second.digest == first.digest
    assert isinstance(second.images, np.memmap)
    assert not second.images.flags.writeable
    assert second.images.shape == (12, 16, 16, 3)
    np.testing.assert_array_equal(second.images[7], decode(tmp_path / "images" / "b" / "1.png", 16, "squash", "bicubic"))
    assert second.ids[7] == "b/1.png"
    assert sorted(np.concatenate(list(second.splits.values()))) == list(range(12))
    counts = second.report["counts"]
    assert sum(sum(part.values()) for part in counts.values()) == 12
    assert all(set(part) == {"a", "b"} for part in counts.values())


def test_whatever_changes_the_pixels_or_the_split_changes_the_digest(tmp_path: Path):
    config = folder(tmp_path, n=12)
    digests = [prepare(config, BICUBIC, quiet).digest]
    for change in ({"image_size": 24}, {"resize": "crop"}, {"split_seed": 1}, {"test_fraction": 0.5}, {"folds": 4}):
        digests.append(prepare(dataclasses.replace(config, **change), BICUBIC, quiet).digest)
    digests.append(prepare(config, Resampling("bilinear"), quiet).digest)
    noise(tmp_path / "images" / "a" / "0.png", seed=999)
    digests.append(prepare(config, BICUBIC, quiet).digest)
    (tmp_path / "images" / "a" / "0.png").rename(tmp_path / "images" / "a" / "00.png")
    digests.append(prepare(config, BICUBIC, quiet).digest)
    assert len(set(digests)) == len(digests)


def test_a_cut_off_array_is_made_anew(tmp_path: Path):
    config = folder(tmp_path)
    whole = np.array(prepare(config, BICUBIC, quiet).images)
    (file,) = (tmp_path / "cache").rglob("images.bin")
    with file.open("r+b") as handle:
        handle.truncate(1000)
    np.testing.assert_array_equal(prepare(config, BICUBIC, quiet).images, whole)
    file.unlink()
    np.testing.assert_array_equal(prepare(config, BICUBIC, quiet).images, whole)


def test_unreadable_images_are_named_and_the_rest_goes_on(tmp_path: Path):
    config = folder(tmp_path)
    where = tmp_path / "images" / "a"
    photo = noise(where / "cut.jpg", 7, (300, 200))
    photo.write_bytes(photo.read_bytes()[:-2000])
    (where / "text.jpg").write_text("I am no image")
    (where / "empty.png").touch()
    (where / "gone.png").symlink_to(tmp_path / "nowhere.png")
    dataset = prepare(config, BICUBIC, quiet)
    left_out = {item["id"]: item["reason"] for item in dataset.report["left_out"]}
    assert set(left_out) == {"a/cut.jpg", "a/text.jpg", "a/empty.png", "a/gone.png"}
    assert "truncated" in left_out["a/cut.jpg"]
    assert left_out["a/text.jpg"] == "no image that Pillow knows"
    assert left_out["a/gone.png"] == "No such file or directory"
    assert len(dataset.ids) == len(dataset.images) == 12
    again = prepare(config, BICUBIC, never)
    assert again.report == dataset.report
    noise(where / "empty.png", 8)
    assert "a/empty.png" in prepare(config, BICUBIC, quiet).ids


def test_an_error_of_the_machine_is_not_blamed_on_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> np.ndarray:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(pixels, "decode", full)
    config = folder(tmp_path)
    with pytest.raises(UserError, match=r"cannot read a/0.png \(Input/output error\)"):
        prepare(config, BICUBIC, quiet)
    monkeypatch.undo()
    assert len(prepare(config, BICUBIC, quiet).ids) == 12


def test_identical_images_stay_together(tmp_path: Path):
    config = folder(tmp_path, n=20)
    for copy in range(5):
        noise(tmp_path / "images" / "b" / f"copy{copy}.png", seed=3)
    dataset = prepare(config, BICUBIC, quiet)
    same = [i for i, id_ in enumerate(dataset.ids) if id_ == "a/3.png" or "copy" in id_]
    assert len(same) == 6
    assert len(set(dataset.groups[same])) == 1
    assert sum(bool(set(same) & set(rows.tolist())) for rows in dataset.splits.values()) == 1
    identical, disputed = dataset.report["notes"]
    assert identical["found"] == "identical images"
    assert identical["ids"] == [" = ".join(["a/3.png", *(f"b/copy{copy}.png" for copy in range(5))])]
    assert disputed["found"] == "identical images with different labels"
    assert "a/3.png (a) = b/copy0.png (b)" in disputed["ids"][0]
    assert dataset.report["groups"]["train"] == len(set(dataset.groups[dataset.splits["train"]]))


def test_too_little_to_study_is_one_line(tmp_path: Path):
    config = folder(tmp_path, n=2)
    (tmp_path / "images" / "b" / "1.png").unlink()
    with pytest.raises(UserError, match=r"class 'a' has 2 group\(s\)"):
        prepare(config, BICUBIC, quiet)
    (tmp_path / "images" / "b" / "0.png").write_text("broken")
    with pytest.raises(UserError, match=r"2 readable image\(s\) of 1 class"):
        prepare(config, BICUBIC, quiet)
    for file in (tmp_path / "images" / "a").iterdir():
        file.write_text("broken")
    with pytest.raises(UserError, match=r"none of 3 files is a readable image; the first: a/0.png"):
        prepare(config, BICUBIC, quiet)
    with pytest.raises(UserError, match=r"data.merge: got 'x=a\+c' \('c' is no class\)"):
        prepare(dataclasses.replace(config, merge=("x=a+c",)), BICUBIC, quiet)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path):
    config = folder(tmp_path)
    (tmp_path / "file").touch()
    config.cache_dir = str(tmp_path / "file")
    with pytest.raises(UserError, match=r"cannot write prepared images to .*\(Not a directory\)"):
        prepare(config, BICUBIC, quiet)


def test_a_full_disk_is_one_line_and_leaves_nothing_half(tmp_path: Path):
    config = folder(tmp_path)
    config.image_size = 256
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        with pytest.raises(UserError, match=r"cannot write prepared images to .*\(File too large\); make room"):
            prepare(config, BICUBIC, quiet)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert {file.name for file in (tmp_path / "cache").rglob("*") if file.is_file()} == {"lock"}
    assert len(prepare(config, BICUBIC, quiet).ids) == 12


def test_two_at_once_decode_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = folder(tmp_path, n=40)
    decoded: list[object] = []

    def counted(image: Path, *settings: object) -> np.ndarray:
        decoded.append(image)
        return decode(image, *settings)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(pixels, "decode", counted)
    # The lock belongs to the open file, so two threads contend for it just as two processes do.
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: prepare(config, BICUBIC, quiet).digest, range(2))
    assert first == second
    assert len(decoded) == 80
    assert len(list((tmp_path / "cache").rglob("images.*"))) == 1


def test_digits_are_whole():
    dataset = prepare(DataConfig(source="digits", image_size=8), BICUBIC, quiet)
    assert dataset.classes == tuple("0123456789")
    assert dataset.ids[:2].tolist() == ["digit-0000", "digit-0001"]
    assert len(dataset.ids) == 1797
    assert dataset.images.max() == 255
    assert len(prepare(DataConfig(source="digits", image_size=8, limit=300), BICUBIC, quiet).ids) == pytest.approx(300, abs=10)


def test_pixels_that_changed_in_the_cache_are_decoded_again(tmp_path: Path) -> None:
    config = DataConfig(source="digits", image_size=8, cache_dir=str(tmp_path))
    before = prepare(config, BICUBIC, quiet)
    (array,) = tmp_path.rglob("images.bin")
    with array.open("r+b") as file:
        file.write(bytes(array.stat().st_size // 2))
    after = prepare(config, BICUBIC, quiet)
    assert after.digest == before.digest
    assert after.images[: len(after.images) // 2].any()


def test_copies_in_a_given_train_are_not_parted_by_the_val_taken_from_it(tmp_path: Path) -> None:
    rows = ["path,label,split"]
    for i in range(40):
        noise(tmp_path / f"{i}.png", i)
        rows.append(f"{i}.png,{'ab'[i % 2]},{'train' if i < 30 else 'test'}")
    for i in range(20):
        noise(tmp_path / f"copy{i}.png", i)
        rows.append(f"copy{i}.png,{'ab'[i % 2]},train")
    # And one whose twin stands in the given test set.
    noise(tmp_path / "leak.png", 35)
    rows.append("leak.png,b,train")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    dataset = prepare(DataConfig(source="table", path=str(tmp_path / "t.csv"), image_size=16), BICUBIC, quiet)
    part = {id_: name for name, split in dataset.splits.items() for id_ in dataset.ids[split].tolist()}
    assert {part[f"{i}.png"] for i in range(20)} == {"train", "val"}
    assert all(part[f"{i}.png"] == part[f"copy{i}.png"] for i in range(20))
    notes = {note["found"]: note for note in dataset.report["notes"]}
    assert notes["identical images"]["done"] == "kept; only the given split may part them"
    assert set(notes["copies of an image on both sides of the given split"]["ids"]) == {"35.png", "leak.png"}


def test_a_link_that_leads_elsewhere_is_decoded_again(tmp_path: Path) -> None:
    config = folder(tmp_path)
    first, second = noise(tmp_path / "one.png", 50), noise(tmp_path / "two.png", 51)
    link = tmp_path / "images" / "a" / "link.png"
    link.symlink_to(first)
    before = prepare(config, BICUBIC, quiet).digest
    os.utime(second, ns=(first.stat().st_atime_ns, first.stat().st_mtime_ns))
    second.write_bytes(second.read_bytes().ljust(first.stat().st_size, b"\0")[: max(first.stat().st_size, 1)])
    os.utime(second, ns=(first.stat().st_atime_ns, first.stat().st_mtime_ns))
    link.unlink()
    link.symlink_to(second)
    assert prepare(config, BICUBIC, quiet).digest != before
