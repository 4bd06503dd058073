from pathlib import Path

import pytest
from PIL import Image

from fteng.config import DataConfig
from fteng.data.folder import read_folder
from fteng.errors import UserError


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 9), (200, 30, 60)).save(path)
    return path


def test_ids_labels_and_what_is_left_out(tmp_path: Path):
    root = tmp_path / "Bilder für fteng"
    image(root / "ok" / "ein bild ü.jpg")
    image(root / "ok" / "deep" / "er" / "2.PNG")
    real = image(tmp_path / "elsewhere" / "3.png")
    (root / "bad").mkdir()
    (root / "bad" / "link.png").symlink_to(real)
    (root / "bad" / "loop").symlink_to(root / "bad")
    (root / "bad" / "notes.txt").write_text("no image")
    image(root / "loose.png")
    for litter in (".hidden.jpg", "Thumbs.db", ".cache/4.jpg", "__MACOSX/._5.jpg"):
        (root / "ok" / litter).parent.mkdir(exist_ok=True)
        (root / "ok" / litter).write_bytes(b"x")
    (root / ".git").mkdir()
    (root / ".DS_Store").write_bytes(b"x")

    source = read_folder(DataConfig(path=str(root)))

    assert source.name == "Bilder für fteng"
    assert [(record.id, record.label, record.group) for record in source.records] == [
        ("bad/link.png", "bad", "bad/link.png"),
        ("ok/ein bild ü.jpg", "ok", "ok/ein bild ü.jpg"),
        ("ok/deep/er/2.PNG", "ok", "ok/deep/er/2.PNG"),
    ]
    assert {item.id: item.reason for item in source.left_out} == {
        "loose.png": "lies beside the class folders",
        "bad/loop": "a link to a folder is not followed; put the folder itself there",
        "bad/notes.txt": "not an image by its name (.txt)",
    }
    assert {item.id for item in source.left_out if item.is_image} == {"loose.png"}
    (note,) = source.notes
    assert note.found == "hidden and system files"
    expected = {".DS_Store", "ok/.hidden.jpg", "ok/Thumbs.db", "ok/.cache/4.jpg", "ok/__MACOSX/._5.jpg"}
    assert set(note.ids) == expected


def test_a_name_that_is_no_utf8_is_left_out(tmp_path: Path):
    for label in ("a", "b"):
        image(tmp_path / label / "1.png")
    bad = bytes(tmp_path / "a") + b"/caf\xe9.png"
    Path(bad.decode("utf-8", "surrogateescape")).write_bytes(b"x")
    (left_out,) = read_folder(DataConfig(path=str(tmp_path))).left_out
    assert left_out.reason == "its name is not UTF-8; rename it"
    left_out.id.encode("utf-8")


def test_what_is_no_class_folder_is_one_line(tmp_path: Path):
    with pytest.raises(UserError, match=r"data.path is empty"):
        read_folder(DataConfig(path=""))
    with pytest.raises(UserError, match=r"no folder '.*nowhere'"):
        read_folder(DataConfig(path=str(tmp_path / "nowhere")))
    with pytest.raises(UserError, match=r"two or more classes, got none"):
        read_folder(DataConfig(path=str(tmp_path)))
    image(tmp_path / "a" / "1.png")
    with pytest.raises(UserError, match=r"two or more classes, got only 'a'"):
        read_folder(DataConfig(path=str(tmp_path)))
    (tmp_path / "b" / "deep").mkdir(parents=True)
    with pytest.raises(UserError, match=r"class folder .*b' has no image"):
        read_folder(DataConfig(path=str(tmp_path)))


def test_a_class_whose_name_is_no_utf8_is_one_line(tmp_path: Path):
    image(tmp_path / "a" / "1.png")
    image(Path(f"{tmp_path}/b\udcff/1.png"))
    with pytest.raises(UserError, match=r"class folder 'b.*udcff' is not UTF-8; rename it"):
        read_folder(DataConfig(path=str(tmp_path)))
