"""Weights and images that both sides draw alike: by name and shape from a seeded generator. Needs numpy alone."""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

_PERIOD = 1_000_003


def draw(name: str, shape: Sequence[int]) -> np.ndarray:
    """One tensor (float32) of a state dict, so scaled that activations keep their size from layer to layer."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    # VGG16's fully connected matrices repeat themselves, for speed; by a period that fits no axis, so that order still tells.
    noise = np.resize(rng.standard_normal(_PERIOD), shape) if np.prod(shape) >= 2**24 else rng.standard_normal(shape)
    if name.endswith("running_var"):
        return np.exp(0.2 * noise).astype(np.float32)
    # Transformers: added to tokens of size one, and the weights of residual branches.
    if name.endswith(("cls_token", "class_token", "pos_embed", "pos_embedding")):
        return (0.5 * noise).astype(np.float32)
    if name.endswith((".gamma", "layer_scale")):
        return (0.5 + 0.1 * noise).astype(np.float32)
    if len(shape) >= 2:
        # Outputs come last in Keras and first elsewhere.
        fan_in = np.prod(shape[:-1] if name.endswith(("/kernel", "/vars/0")) else shape[1:])
        return (noise * np.sqrt(2 / fan_in)).astype(np.float32)
    # Scales of norms around one, everything else around zero.
    return (float(name.endswith("weight")) + 0.1 * noise).astype(np.float32)


def draw_all(shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """A whole state dict."""
    return {name: draw(name, shape) for name, shape in shapes.items()}


def image_batch(count: int, size: int) -> np.ndarray:
    """(count, size, size, 3) float32, as if already preprocessed; smooth enough that neighbouring pixels are alike."""
    rng = np.random.default_rng(1)
    coarse = rng.standard_normal((count, 8, 8, 3))
    repeats = -(-size // 8)
    smooth = coarse.repeat(repeats, 1).repeat(repeats, 2)[:, :size, :size]
    return (smooth + 0.3 * rng.standard_normal((count, size, size, 3))).astype(np.float32)
