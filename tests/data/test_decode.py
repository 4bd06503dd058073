import os
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


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("shape", [(450, 600), (97, 131), (16, 17), (1000, 130)])
@pytest.mark.parametrize(
    "options", [{"quality": 90}, {"quality": 75, "progressive": True}, {"quality": 95, "subsampling": "4:4:4"}]
)
def test_a_jpeg_is_decoded_as_pillow_decodes_it(tmp_path: Path, mode: str, shape: tuple[int, int], options: dict[str, object]):
    noise = np.random.default_rng(0).integers(0, 256, (shape[0] // 8 + 1, shape[1] // 8 + 1, 3), np.uint8)
    image = Image.fromarray(noise).resize((shape[1], shape[0]), Image.Resampling.BICUBIC).convert(mode)
    path = save(tmp_path / "image.jpg", image, **options)
    with Image.open(path) as opened:
        box = opened.draft(None, (64, 64))
        width, height = (box[1][2], box[1][3]) if box else opened.size
        pillow = np.asarray(opened.convert("RGB"))
    # A lossless file of what Pillow decoded takes the other way through `decode`; only whole halves can be told so.
    if (width, height) == (pillow.shape[1], pillow.shape[0]):
        lossless = save(tmp_path / "image.png", Image.fromarray(pillow))
        np.testing.assert_array_equal(decode(path, 64, "squash", "bicubic"), decode(lossless, 64, "squash", "bicubic"))
    with Image.open(path) as opened:
        opened.draft(None, (64, 64))
        wanted = opened.convert("RGB").resize((64, 64), Image.Resampling.BICUBIC, (0, 0, width, height))
    difference = np.abs(decode(path, 64, "squash", "bicubic").astype(int) - np.asarray(wanted))
    assert difference.max() <= 4
    assert difference.mean() < 0.5


def test_what_only_pillow_decodes_is_left_to_it(tmp_path: Path):
    path = save(tmp_path / "photo.jpg", Image.fromarray(np.full((100, 100, 3), 90, np.uint8)), quality=95)
    content = path.read_bytes()
    (tmp_path / "odd.jpg").write_bytes(content[:-2] + b"\x00" * 20)
    assert np.abs(decode(tmp_path / "odd.jpg", 16, "squash", "bicubic").astype(int) - 90).max() <= 2
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(OSError, match=r"(?i)truncated"):
        decode(tmp_path / "cut.jpg", 16, "squash", "bicubic")


def test_weights_look_at_their_share_of_the_centre(tmp_path: Path):
    """A square of 40 px in the middle of 160 x 80: half of the centre crop's side."""
    image = np.zeros((80, 160, 3), np.uint8)
    image[20:60, 60:100] = 255
    path = save(tmp_path / "image.png", Image.fromarray(image))
    assert (decode(path, 16, "weights", "bilinear", 0.5)[1:-1, 1:-1] == 255).all()
    assert (decode(path, 16, "crop", "bilinear")[0] == 0).all()
    np.testing.assert_array_equal(decode(path, 16, "weights", "bilinear"), decode(path, 16, "crop", "bilinear"))
    # A JPEG is not decoded smaller than the share of it that is shown.
    photograph = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)).resize(
        (640, 640), Image.Resampling.BICUBIC
    )
    whole, shrunk = save(tmp_path / "p.png", photograph), save(tmp_path / "p.jpg", photograph, quality=98)
    difference = decode(whole, 160, "weights", "bilinear", 0.5).astype(int) - decode(shrunk, 160, "weights", "bilinear", 0.5)
    assert np.abs(difference).mean() < 3


def test_a_pipe_or_a_device_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zero.png"):
        with pytest.raises(ValueError, match="neither a file nor a link to one"):
            decode(tmp_path / name, 16, "squash", "bicubic")
    with pytest.raises(IsADirectoryError):
        decode(tmp_path, 16, "squash", "bicubic")
