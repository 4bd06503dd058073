"""Vision transformers: ViT-S/16 and ViT-B/16 (Dosovitskiy et al. 2021; Steiner et al. 2022), DINOv2 ViT-S/14 (Oquab et al. 2023).

14 stages: `embed`, `block1` to `block12`, `norm`. A stage's output is tokens (n, 1 + patches, c), the class token first; its
features are the class token and the mean of the patches, 2c together. Position embeddings are kept at the size they were trained
at and resized in the forward pass for images of another size.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.lax import Precision

from fteng.backbones.backbone import Pass, Preprocess
from fteng.backbones.layers import Conv, Dense, LayerNorm, gelu
from fteng.backbones.naming import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Naming,
    Slot,
    Slots,
    torch_conv,
    torch_head,
    torch_layer_norm,
    torch_linear,
    torch_naming,
)
from fteng.backbones.network import Network, Stage, make_network
from fteng.backbones.resize import antialiased_bicubic, offset_bicubic
from fteng.errors import UserError

_EPSILON = 1e-6
_BLOCKS = 12
_HALF = (127.5, 127.5, 127.5)


class _Variant(NamedTuple):
    """patch: pixels a side; grid: patches a side that the position embeddings were trained for; resize: (old, new) length -> the
    matrix that resizes them; layer_scale: whether residual branches have a weight a channel."""

    name: str
    patch: int
    channels: int
    heads: int
    grid: int
    resize: Callable[[int, int], np.ndarray]
    layer_scale: bool


class Embed(nnx.Module):
    """Images (n, h, w, 3) -> tokens (n, 1 + h / patch * w / patch, c): class token, then patches row by row, with their positions.

    class_token: (c,); position: (1 + grid * grid, c). Raises UserError for h or w that is no multiple of the patch.
    """

    def __init__(self, variant: _Variant, *, rng: np.random.Generator):
        self.name, self.patch, self.grid, self.resize = variant.name, variant.patch, variant.grid, variant.resize
        size, channels = variant.patch, variant.channels
        self.patches = Conv(3, channels, size=size, stride=size, padding="VALID", bias=True, gain=1.0, rng=rng)
        self.class_token = nnx.Param(jnp.zeros((channels,)))
        self.position = nnx.Param(jnp.asarray(0.02 * rng.standard_normal((1 + variant.grid**2, channels), np.float32)))

    def __call__(self, x: jax.Array, _how: Pass) -> jax.Array:
        """See the class."""
        n, h, w, _ = x.shape
        for side in (h, w):
            if side % self.patch:
                below = max(side // self.patch, 1) * self.patch
                raise UserError(
                    f"data.image_size: {self.name} cuts images into patches of {self.patch} pixels, got {side}, allowed: multiples "
                    f"of {self.patch}; take {below} or {below + self.patch}"
                )
        patches = self.patches(x)
        _, rows, columns, channels = patches.shape
        position = self.position[...]
        tokens = patches.reshape(n, rows * columns, channels) + self._resized(position[1:], rows, columns)
        first = jnp.broadcast_to(self.class_token[...] + position[0], (n, 1, channels))
        return jnp.concatenate([first, tokens], axis=1)

    def _resized(self, position: jax.Array, rows: int, columns: int) -> jax.Array:
        """(grid * grid, c) -> (rows * columns, c)."""
        if (rows, columns) == (self.grid, self.grid):
            return position
        channels = position.shape[-1]
        # Plain matrix products; at full precision, because they are tiny and every block sees their error.
        product = partial(jnp.matmul, precision=Precision.HIGHEST)
        tall = product(jnp.asarray(self.resize(self.grid, rows)), position.reshape(self.grid, -1))
        turned = tall.reshape(rows, self.grid, channels).swapaxes(0, 1).reshape(self.grid, -1)
        wide = product(jnp.asarray(self.resize(self.grid, columns)), turned).reshape(columns, rows, channels)
        return wide.swapaxes(0, 1).reshape(rows * columns, channels).astype(position.dtype)


class Attention(nnx.Module):
    """Every token looks at every token, in `heads` subspaces (Vaswani et al. 2017): (n, tokens, c) -> (n, tokens, c).

    qkv: queries, keys and values as one matrix. Written out: on XLA:CPU it takes less than half the time of
    jax.nn.dot_product_attention (197 tokens, 6 heads; 2.2 times forward, 2.8 times with gradient).
    """

    def __init__(self, channels: int, heads: int, *, rng: np.random.Generator):
        self.heads = heads
        self.qkv = Dense(channels, 3 * channels, rng=rng)
        self.out = Dense(channels, channels, rng=rng)

    def __call__(self, x: jax.Array) -> jax.Array:
        """See the class."""
        n, tokens, channels = x.shape
        width = channels // self.heads
        qkv = self.qkv(x).reshape(n, tokens, 3, self.heads, width)
        queries, keys, values = (qkv[:, :, part] for part in range(3))
        scores = jnp.einsum("nqhd,nkhd->nhqk", queries * width**-0.5, keys)
        seen = jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores), values)
        return self.out(seen.reshape(n, tokens, channels))


class LayerScale(nnx.Module):
    """A weight a channel of a residual branch (Touvron et al. 2021). gamma: (c,), 1e-5 at a random start."""

    def __init__(self, channels: int):
        self.gamma = nnx.Param(jnp.full((channels,), 1e-5))

    def __call__(self, x: jax.Array) -> jax.Array:
        """See the class."""
        return x * self.gamma[...]


class Block(nnx.Module):
    """Attention and a perceptron, each behind a norm and beside a shortcut: (n, tokens, c) -> (n, tokens, c)."""

    def __init__(self, variant: _Variant, *, rng: np.random.Generator):
        channels = variant.channels
        self.layer_scale = variant.layer_scale
        self.norm1 = LayerNorm(channels, epsilon=_EPSILON)
        self.attention = Attention(channels, variant.heads, rng=rng)
        self.norm2 = LayerNorm(channels, epsilon=_EPSILON)
        self.expand = Dense(channels, 4 * channels, rng=rng)
        self.project = Dense(4 * channels, channels, rng=rng)
        if self.layer_scale:
            self.scale1 = LayerScale(channels)
            self.scale2 = LayerScale(channels)

    def __call__(self, x: jax.Array, _how: Pass) -> jax.Array:
        """See the class."""
        y = self.attention(self.norm1(x))
        x = x + (self.scale1(y) if self.layer_scale else y)
        y = self.project(gelu(self.expand(self.norm2(x))))
        return x + (self.scale2(y) if self.layer_scale else y)


class Norm(nnx.Module):
    """The last norm, of every token: (n, tokens, c) -> (n, tokens, c)."""

    def __init__(self, channels: int):
        self.norm = LayerNorm(channels, epsilon=_EPSILON)

    def __call__(self, x: jax.Array, _how: Pass) -> jax.Array:
        """See the class."""
        return self.norm(x)


def class_and_mean(y: jax.Array) -> jax.Array:
    """(n, 1 + patches, c) -> (n, 2c): the class token, then the mean of the patches."""
    return jnp.concatenate([y[:, 0], jnp.mean(y[:, 1:], axis=1)], axis=-1)


def small_patch16() -> Network:
    """22.1 M parameters, 224 px, ImageNet top-1 81.4 % (pretrained on ImageNet-21k)."""
    variant = _Variant("vit_small_patch16", 16, 384, 6, 14, antialiased_bicubic, layer_scale=False)
    return _network(variant, (_timm(variant),))


def base_patch16() -> Network:
    """86.6 M parameters, 224 px, ImageNet top-1 81.1 % (torchvision), 85.1 % (timm, pretrained on ImageNet-21k).

    Other image sizes: as timm resizes the position embeddings, under either publisher's names.
    """
    variant = _Variant("vit_base_patch16", 16, 768, 12, 14, antialiased_bicubic, layer_scale=False)
    preprocess = Preprocess(IMAGENET_MEAN, IMAGENET_STD, "RGB", "bilinear", 224, crop=224 / 256)
    return _network(variant, (_timm(variant), torch_naming("torchvision", _torchvision_slots(variant), preprocess)))


def small_patch14_dinov2() -> Network:
    """22.1 M parameters, 518 px, pretrained without labels, so without a classifier; ImageNet top-1 of a linear probe 81.1 %.

    timm and the authors name its tensors alike, but for the authors' `mask_token`, which only their pretraining reads.
    """
    variant = _Variant("vit_small_patch14_dinov2", 14, 384, 6, 37, offset_bicubic, layer_scale=True)
    preprocess = Preprocess(IMAGENET_MEAN, IMAGENET_STD, "RGB", "bicubic", 518)
    naming = torch_naming("dinov2", _timm_slots(variant), preprocess, unused=frozenset({"mask_token"}))
    return _network(variant, (naming,))


def _network(variant: _Variant, namings: tuple[Naming, ...]) -> Network:
    blocks = [f"block{index}" for index in range(1, _BLOCKS + 1)]
    features = 2 * variant.channels
    return make_network(
        variant.name,
        [
            Stage("embed", features, lambda rng: Embed(variant, rng=rng)),
            *(Stage(name, features, lambda rng: Block(variant, rng=rng)) for name in blocks),
            Stage("norm", features, lambda _: Norm(variant.channels)),
        ],
        groups={f"quarter{index + 1}": blocks[3 * index : 3 * index + 3] for index in range(4)},
        namings=namings,
        pool=class_and_mean,
        head_features=variant.channels,
    )


def _timm(variant: _Variant) -> Naming:
    preprocess = Preprocess(_HALF, _HALF, "RGB", "bicubic", 224, crop=0.9)

    def slots() -> Slots:
        yield from _timm_slots(variant)
        yield from torch_head("head")

    return torch_naming("timm", slots(), preprocess)


def _timm_slots(variant: _Variant) -> Slots:
    """All but the classifier."""
    yield from _embed_slots("cls_token", "pos_embed", "patch_embed.proj", variant)
    for stage in range(1, _BLOCKS + 1):
        torch = f"blocks.{stage - 1}"
        yield from torch_layer_norm(f"{torch}.norm1", stage, "norm1")
        yield from torch_linear(f"{torch}.attn.qkv", stage, "attention", "qkv")
        yield from torch_linear(f"{torch}.attn.proj", stage, "attention", "out")
        yield from torch_layer_norm(f"{torch}.norm2", stage, "norm2")
        yield from torch_linear(f"{torch}.mlp.fc1", stage, "expand")
        yield from torch_linear(f"{torch}.mlp.fc2", stage, "project")
        if variant.layer_scale:
            yield f"{torch}.ls1.gamma", Slot("params", stage, ("scale1", "gamma"), (0,))
            yield f"{torch}.ls2.gamma", Slot("params", stage, ("scale2", "gamma"), (0,))
    yield from torch_layer_norm("norm", _BLOCKS + 1, "norm")


def _torchvision_slots(variant: _Variant) -> Slots:
    yield from _embed_slots("class_token", "encoder.pos_embedding", "conv_proj", variant)
    for stage in range(1, _BLOCKS + 1):
        torch = f"encoder.layers.encoder_layer_{stage - 1}"
        yield from torch_layer_norm(f"{torch}.ln_1", stage, "norm1")
        yield f"{torch}.self_attention.in_proj_weight", Slot("params", stage, ("attention", "qkv", "kernel"), (1, 0))
        yield f"{torch}.self_attention.in_proj_bias", Slot("params", stage, ("attention", "qkv", "bias"), (0,))
        yield from torch_linear(f"{torch}.self_attention.out_proj", stage, "attention", "out")
        yield from torch_layer_norm(f"{torch}.ln_2", stage, "norm2")
        yield from torch_linear(f"{torch}.mlp.0", stage, "expand")
        yield from torch_linear(f"{torch}.mlp.3", stage, "project")
    yield from torch_layer_norm("encoder.ln", _BLOCKS + 1, "norm")
    yield from torch_head("heads.head")


def _embed_slots(class_token: str, position: str, patches: str, variant: _Variant) -> Slots:
    channels, tokens = variant.channels, 1 + variant.grid**2
    yield class_token, Slot("params", 0, ("class_token",), (0,), view=(channels,), file_shape=(1, 1, channels))
    yield position, Slot("params", 0, ("position",), (0, 1), view=(tokens, channels), file_shape=(1, tokens, channels))
    yield from torch_conv(patches, 0, "patches", bias=True)
