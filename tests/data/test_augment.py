import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fteng.data.augment import _sampling, augment, mixup

IMAGES = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), np.uint8)
ON_DEVICE = jnp.asarray(IMAGES)


def symmetries(image: np.ndarray) -> list[np.ndarray]:
    turned = [np.rot90(image, k) for k in range(4)]
    return turned + [view[:, ::-1] for view in turned]


def which(image: np.ndarray, views: list[np.ndarray]) -> int:
    (found,) = [i for i, view in enumerate(views) if np.array_equal(image, view)]
    return found


def test_nothing_is_the_same_images():
    assert augment(jax.random.key(0), ON_DEVICE, ()) is ON_DEVICE


def test_flip_mirrors_about_half():
    changed = np.asarray(augment(jax.random.key(1), ON_DEVICE, ("flip",)))
    found = [which(new, [old, old[:, ::-1]]) for new, old in zip(changed, IMAGES, strict=True)]
    assert 16 < sum(found) < 48


def test_dihedral_is_each_of_the_eight_symmetries():
    changed = np.asarray(augment(jax.random.key(2), ON_DEVICE, ("dihedral",)))
    found = [which(new, symmetries(old)) for new, old in zip(changed, IMAGES, strict=True)]
    assert set(found) == set(range(8))


def test_shift_moves_each_image_by_itself_and_mirrors_the_edge():
    changed = np.asarray(augment(jax.random.key(3), ON_DEVICE, ("shift",)))
    padded = np.pad(IMAGES, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    moves = {
        which(new, [padded[i, top : top + 8, left : left + 8] for top in range(3) for left in range(3)])
        for i, new in enumerate(changed)
    }
    assert moves == set(range(9))


def test_crop_is_what_pillow_crops():
    """A part of the image, resized: the same as bilinear resizing of the box, since no part is shrunk."""
    image = np.asarray(Image.fromarray(IMAGES[0]).resize((32, 32), Image.Resampling.BICUBIC))
    share, start = jnp.asarray([0.5]), jnp.asarray([0.25])
    rows = np.asarray(_sampling(share, start, 32))[0]
    ours = np.einsum("oh,hwc->owc", rows, np.einsum("ow,hwc->hoc", rows, image.astype(np.float32)))
    box = (8, 8, 24, 24)
    theirs = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR, box=box), np.float32)
    # Pillow does not look beyond the box: the outermost ring differs.
    np.testing.assert_allclose(ours[1:-1, 1:-1], theirs[1:-1, 1:-1], atol=1.01)


@pytest.mark.slow
def test_crop_and_colour_keep_a_constant_image_constant():
    grey = jnp.full((8, 16, 16, 3), 100, jnp.uint8)
    np.testing.assert_array_equal(augment(jax.random.key(0), grey, ("crop",)), grey)
    coloured = np.asarray(augment(jax.random.key(0), grey, ("colour",)))
    assert (coloured == coloured[:, :1, :1, :1]).all()
    assert 80 <= coloured.min() < coloured.max() <= 120


@pytest.mark.slow
def test_mixup_mixes_labels_as_it_mixes_images():
    targets = jnp.eye(64)
    images = jnp.arange(64.0)[:, None, None, None] * jnp.ones((1, 2, 2, 3))
    mixed, shares = mixup(jax.random.key(0), images, targets, 0.4)
    np.testing.assert_allclose(np.asarray(shares).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(mixed)[:, 0, 0, 0], np.asarray(shares) @ np.arange(64), rtol=1e-4, atol=1e-3)
    assert (np.asarray(shares) > 0.01).sum() > 80


@pytest.mark.parametrize("kind", ["flip", "dihedral", "shift", "crop", "colour"])
def test_the_key_alone_decides_and_type_stays(kind: str):
    step = jax.jit(augment, static_argnames="kinds")
    first, again, other = (np.asarray(step(jax.random.key(k), ON_DEVICE, kinds=(kind,))) for k in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.dtype == np.uint8
    assert first.shape == IMAGES.shape
