"""Augmentation on the device: per image, from a key of its own, so that what an image becomes does not depend on its batch."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Key, UInt8

Images = UInt8[Array, "n h w 3"]

# Random resized crop: share of the area, and the aspect ratio (Szegedy et al. 2015); the lower end is milder than ImageNet's,
# since the network is tuned for a few epochs only.
_CROP_AREA = (0.35, 1.0)
_CROP_ASPECT = (3 / 4, 4 / 3)
# Largest change of brightness, contrast and saturation, as a factor around 1.
_COLOUR = 0.2


def augment(key: Key[Array, ""], images: Images, kinds: Sequence[str]) -> Images:
    """Each image changed by itself, by each of `kinds` in order.

    flip: left-right; dihedral: the 8 symmetries of the square (dermoscopy, microscopy); shift: by up to an eighth of the side in
    each direction, edges mirrored; crop: a part of 35 to 100 % of the area, back to full size; colour: brightness, contrast and
    saturation by up to a fifth.
    """
    for number, kind in enumerate(kinds):
        images = _KINDS[kind](jax.random.fold_in(key, number), images)
    return images


def view_keys(key: Key[Array, ""], rows: Int32[Array, "n"], views: Int32[Array, "n"]) -> Key[Array, "n"]:
    """One key an image from its row in the data set and the number of its view."""
    return jax.vmap(lambda row, view: jax.random.fold_in(jax.random.fold_in(key, row), view))(rows, views)


def augment_each(keys: Key[Array, "n"], images: Images, kinds: Sequence[str]) -> Images:
    """`augment` of each image with its own key."""
    if not kinds:
        return images
    return jax.vmap(lambda key, image: augment(key, image[None], kinds)[0])(keys, images)


def mixup(
    key: Key[Array, ""], images: Float[Array, "n h w 3"], targets: Float[Array, "n classes"], alpha: float
) -> tuple[Float[Array, "n h w 3"], Float[Array, "n classes"]]:
    """Convex mixtures of images and targets with a shuffled copy of the batch; one share an image
    from Beta(alpha, alpha) (Zhang et al. 2018)."""
    share_key, order_key = jax.random.split(key)
    share = jax.random.beta(share_key, alpha, alpha, (len(images),))
    order = jax.random.permutation(order_key, len(images))
    mixed = share[:, None, None, None] * images + (1 - share[:, None, None, None]) * images[order]
    return mixed, share[:, None] * targets + (1 - share[:, None]) * targets[order]


def _flip(key: Key[Array, ""], images: Images) -> Images:
    return _half(key, images[:, :, ::-1], images)


def _dihedral(key: Key[Array, ""], images: Images) -> Images:
    keys = jax.random.split(key, 3)
    images = _flip(keys[0], images)
    images = _half(keys[1], images[:, ::-1], images)
    return _half(keys[2], images.swapaxes(1, 2), images)


def _half(key: Key[Array, ""], changed: Images, images: Images) -> Images:
    """`changed` for about half of the images."""
    return jnp.where(jax.random.bernoulli(key, shape=(images.shape[0], 1, 1, 1)), changed, images)


def _shift(key: Key[Array, ""], images: Images) -> Images:
    n, height, width, channels = images.shape
    pad_y, pad_x = max(1, height // 8), max(1, width // 8)
    padded = jnp.pad(images, ((0, 0), (pad_y, pad_y), (pad_x, pad_x), (0, 0)), mode="reflect")
    keys = jax.random.split(key)
    tops = jax.random.randint(keys[0], (n,), 0, 2 * pad_y + 1)
    lefts = jax.random.randint(keys[1], (n,), 0, 2 * pad_x + 1)
    size = (height, width, channels)
    return jax.vmap(lambda image, top, left: jax.lax.dynamic_slice(image, (top, left, 0), size))(padded, tops, lefts)


def _crop(key: Key[Array, ""], images: Images) -> Images:
    """Bilinear sampling as two small matrices an image, rows and columns apart: matrix products, where a gather would be slow."""
    n, height, width, _ = images.shape
    keys = jax.random.split(key, 4)
    area = jax.random.uniform(keys[0], (n,), minval=_CROP_AREA[0], maxval=_CROP_AREA[1])
    low, high = jnp.log(jnp.asarray(_CROP_ASPECT))
    stretch = jnp.exp(jax.random.uniform(keys[1], (n,), minval=low, maxval=high) / 2)
    rows, columns = jnp.minimum(1.0, jnp.sqrt(area) * stretch), jnp.minimum(1.0, jnp.sqrt(area) / stretch)
    down = _sampling(rows, jax.random.uniform(keys[2], (n,)) * (1 - rows), height)
    across = _sampling(columns, jax.random.uniform(keys[3], (n,)) * (1 - columns), width)
    cropped = jnp.einsum("noh,nhwc->nowc", down, images.astype(jnp.float32))
    return _to_bytes(jnp.einsum("now,nhwc->nhoc", across, cropped))


def _sampling(share: Float[Array, "n"], start: Float[Array, "n"], length: int) -> Float[Array, "n {length} {length}"]:
    """Row o holds the two weights with which pixel o of the result is read; share, start: of the side."""
    centres = (jnp.arange(length) + 0.5) / length
    places = jnp.clip((start[:, None] + share[:, None] * centres) * length - 0.5, 0, length - 1)
    return jnp.maximum(0.0, 1 - jnp.abs(places[:, :, None] - jnp.arange(length)))


def _colour(key: Key[Array, ""], images: Images) -> Images:
    factors = jax.random.uniform(key, (3, images.shape[0], 1, 1, 1), minval=1 - _COLOUR, maxval=1 + _COLOUR)
    x = images.astype(jnp.float32) * factors[0]
    x = _blend(x, x.mean(axis=(1, 2, 3), keepdims=True), factors[1])
    return _to_bytes(_blend(x, x.mean(axis=3, keepdims=True), factors[2]))


def _blend(
    x: Float[Array, "n h w 3"], towards: Float[Array, "n #h #w 1"], factor: Float[Array, "n 1 1 1"]
) -> Float[Array, "n h w 3"]:
    return towards + factor * (x - towards)


def _to_bytes(x: Float[Array, "n h w 3"]) -> Images:
    return jnp.clip(jnp.round(x), 0, 255).astype(jnp.uint8)


_KINDS: Mapping[str, Callable[[Key[Array, ""], Images], Images]] = {
    "flip": _flip,
    "dihedral": _dihedral,
    "shift": _shift,
    "crop": _crop,
    "colour": _colour,
}
