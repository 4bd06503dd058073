import io

import numpy as np
import pytest
from PIL import Image
from skimage import data

from fteng.data.duplicates import near_copies, same_pixels

SIDE = 100


def square(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def again(image: Image.Image, quality: int) -> Image.Image:
    stored = io.BytesIO()
    image.save(stored, "JPEG", quality=quality)
    return Image.open(stored)


def test_same_pixels():
    assert same_pixels(["a", "b", "a", "c", "b", "a"]) == [[0, 2, 5], [1, 4]]
    assert same_pixels([]) == []


def test_copies_of_photographs_are_known_and_nothing_else():
    photos = [Image.fromarray(picture).convert("RGB") for picture in (data.coffee(), data.astronaut(), data.chelsea())]
    images = []
    for photo in photos:
        width, height = photo.size
        images += [
            square(photo),
            square(again(photo, 40)),
            square(photo.resize((width // 2, height // 2))),
            square(Image.blend(Image.new("RGB", photo.size), photo, 0.85)),
            square(photo.crop((2, 2, width - 2, height - 2))),
        ]
    assert near_copies(np.stack(images)) == [list(range(k, k + 5)) for k in (0, 5, 10)]


def dark_discs_on_skin(n: int) -> np.ndarray:
    """(n, SIDE, SIDE, 3): simulated lesions that differ in little more than their detail."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    images = []
    for _ in range(n):
        disc = 1 / (1 + np.exp((np.hypot(x, y) / rng.uniform(0.2, 0.25) - 1) * 8))
        detail = square(Image.fromarray(rng.integers(88, 168, (12, 12), np.uint8)))[..., :1] - 128.0
        skin = np.array([210, 160, 140.0]) - np.array([100, 90, 80.0]) * disc[..., None]
        images.append((skin + 0.3 * detail * disc[..., None] + rng.normal(0, 4, (SIDE, SIDE, 1))).clip(0, 255).astype(np.uint8))
    return np.stack(images)


def test_dark_discs_on_skin_are_not_all_the_same_lesion():
    assert near_copies(dark_discs_on_skin(200)) == []


@pytest.mark.slow
def test_among_fifty_million_pairs_of_lesions_none_is_a_copy_but_the_one_that_is():
    images = dark_discs_on_skin(10_000)
    images[-1] = square(again(Image.fromarray(images[7]), 60))
    assert near_copies(images) == [[7, 9_999]]


def test_images_of_one_colour_are_not_near_copies():
    flat = np.stack([np.full((SIDE, SIDE, 3), value, np.uint8) for value in (0, 10, 200)])
    assert near_copies(flat) == []
