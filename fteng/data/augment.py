"""Augmentation on the device: per image, from one key, inside the compiled step."""

import jax
import jax.numpy as jnp


def augment(key: jax.Array, images: jax.Array, kind: str) -> jax.Array:
    """(n, h, w, c) -> the same shape and type, each image changed by itself.

    kind: none; flip (left-right); dihedral (the 8 symmetries of the square: dermoscopy, microscopy); shift (by up to an eighth
    of the side in each direction, edges mirrored).
    """
    if kind == "none":
        return images
    keys = jax.random.split(key, 3)
    n, height, width = images.shape[:3]
    if kind == "shift":
        pad_y, pad_x = max(1, height // 8), max(1, width // 8)
        padded = jnp.pad(images, ((0, 0), (pad_y, pad_y), (pad_x, pad_x), (0, 0)), mode="reflect")
        tops = jax.random.randint(keys[0], (n,), 0, 2 * pad_y + 1)
        lefts = jax.random.randint(keys[1], (n,), 0, 2 * pad_x + 1)
        size = (height, width, images.shape[3])
        return jax.vmap(lambda image, top, left: jax.lax.dynamic_slice(image, (top, left, 0), size))(padded, tops, lefts)
    images = _where(keys[0], images[:, :, ::-1], images)
    if kind == "dihedral":
        images = _where(keys[1], images[:, ::-1], images)
        images = _where(keys[2], images.swapaxes(1, 2), images)
    return images


def _where(key: jax.Array, changed: jax.Array, images: jax.Array) -> jax.Array:
    """`changed` for about half of the images."""
    return jnp.where(jax.random.bernoulli(key, shape=(images.shape[0], 1, 1, 1)), changed, images)
