from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fteng.data.decode import decode

# Left half red, right half blue: mirrored or turned it would show.
TWO = np.zeros((40, 80, 3), np.uint8)
TWO[:, :40], TWO[:, 40:] = (255, 0, 0), (0, 0, 255)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # pyright: ignore[reportArgumentType]
    return path


def test_policies(tmp_path: Path):
    path = save(tmp_path / "two.png", Image.fromarray(TWO))
    squash = decode(path, 20, "squash", "bilinear")
    assert squash[10, 2].tolist() == [255, 0, 0]
    assert squash[10, 17].tolist() == [0, 0, 255]
    letterbox = decode(path, 20, "letterbox", "bilinear")
    assert letterbox[2, 2].tolist() == [127, 127, 127]
    assert letterbox[10, 2].tolist() == [255, 0, 0]
    marked = TWO.copy()
    marked[:, :20] = (0, 255, 0)
    crop = decode(save(tmp_path / "marked.png", Image.fromarray(marked)), 20, "crop", "bilinear")
    assert crop[10, 2].tolist() == [255, 0, 0]


def test_colour_models(tmp_path: Path):
    red = Image.new("RGB", (16, 16), (255, 0, 0))
    assert decode(save(tmp_path / "p.png", red.quantize(4)), 8, "squash", "bicubic")[4, 4].tolist() == [255, 0, 0]
    cmyk = decode(save(tmp_path / "cmyk.jpg", red.convert("CMYK"), quality=100), 8, "squash", "bicubic")[4, 4]
    assert np.abs(cmyk.astype(int) - [255, 0, 0]).max() < 8
    grey = decode(np.full((16, 16), 90, np.uint8), 8, "squash", "bicubic")
    assert grey.shape == (8, 8, 3)
    assert np.unique(grey).tolist() == [90]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_on_white(tmp_path: Path, mode: str):
    clear = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    image = clear if mode == "RGBA" else clear.convert("LA")
    if mode == "P":
        image = Image.new("P", (16, 16), 0)
        image.putpalette([10, 20, 30])
        image.info["transparency"] = 0
    assert np.unique(decode(save(tmp_path / "clear.png", image), 8, "squash", "bicubic")).tolist() == [255]


def test_sixteen_bit_grey_keeps_its_range(tmp_path: Path):
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (64, 1))
    for suffix in ("png", "tif"):
        found = decode(save(tmp_path / f"ramp.{suffix}", Image.fromarray(ramp)), 64, "squash", "bicubic")
        np.testing.assert_array_equal(found[0, :, 0], np.round(ramp[0] / 257))


def test_numbers_without_a_known_range_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="no known range"):
        decode(save(tmp_path / "f.tif", Image.fromarray(np.zeros((4, 4), np.float32))), 8, "squash", "bicubic")
    with pytest.raises(ValueError, match="beyond 16 bit"):
        decode(save(tmp_path / "i.tif", Image.fromarray(np.full((4, 4), 1 << 20, np.int32))), 8, "squash", "bicubic")


def test_exif_turns_the_image(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 3
    path = save(tmp_path / "turned.jpg", Image.fromarray(TWO), exif=exif, quality=100)
    left = decode(path, 16, "squash", "bicubic")[8, 1]
    assert left[2] > 200
    assert left[0] < 50


@pytest.mark.parametrize("resize", ["squash", "crop", "letterbox"])
def test_the_fast_way_of_jpeg_is_close_to_the_whole_one(tmp_path: Path, resize: str):
    y, x = np.mgrid[:450, :600]
    photo = np.stack([127 + 100 * np.sin(x / 9), 127 + 100 * np.cos(y / 7), 127 + 60 * np.sin((x + y) / 20)], -1).astype(np.uint8)
    jpeg = save(tmp_path / "photo.jpg", Image.fromarray(photo), quality=95)
    whole = save(tmp_path / "photo.png", Image.open(jpeg))
    fast, slow = (decode(path, 100, resize, "bicubic").astype(int) for path in (jpeg, whole))
    assert np.abs(fast - slow).mean() < 2
