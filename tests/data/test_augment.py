from typing import Any

import jax
import numpy as np
import pytest

from fteng.data.augment import augment

IMAGES: Any = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), np.uint8)


def symmetries(image: np.ndarray) -> list[np.ndarray]:
    turned = [np.rot90(image, k) for k in range(4)]
    return turned + [view[:, ::-1] for view in turned]


def which(image: np.ndarray, views: list[np.ndarray]) -> int:
    (found,) = [i for i, view in enumerate(views) if np.array_equal(image, view)]
    return found


def test_none_is_the_same_images():
    assert augment(jax.random.key(0), IMAGES, "none") is IMAGES


def test_flip_mirrors_about_half():
    changed = np.asarray(augment(jax.random.key(1), IMAGES, "flip"))
    found = [which(new, [old, old[:, ::-1]]) for new, old in zip(changed, IMAGES, strict=True)]
    assert 16 < sum(found) < 48


def test_dihedral_is_each_of_the_eight_symmetries():
    changed = np.asarray(augment(jax.random.key(2), IMAGES, "dihedral"))
    found = [which(new, symmetries(old)) for new, old in zip(changed, IMAGES, strict=True)]
    assert set(found) == set(range(8))


def test_shift_moves_each_image_by_itself_and_mirrors_the_edge():
    changed = np.asarray(augment(jax.random.key(3), IMAGES, "shift"))
    padded = np.pad(IMAGES, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    moves = {
        which(new, [padded[i, top : top + 8, left : left + 8] for top in range(3) for left in range(3)])
        for i, new in enumerate(changed)
    }
    assert moves == set(range(9))


@pytest.mark.parametrize("kind", ["flip", "dihedral", "shift"])
def test_the_key_alone_decides_and_type_stays(kind: str):
    step = jax.jit(augment, static_argnames="kind")
    first, again, other = (np.asarray(step(jax.random.key(k), IMAGES, kind=kind)) for k in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.dtype == np.uint8
    floats = np.asarray(step(jax.random.key(4), IMAGES.astype(np.float32), kind=kind))
    np.testing.assert_array_equal(floats, first)
