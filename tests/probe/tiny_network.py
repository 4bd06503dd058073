"""A network of two stages, the first with batch norm, the second without: what the moments of a pass are tested on."""

import jax
import numpy as np
from flax import nnx

from fteng.backbones.backbone import Pass, Preprocess
from fteng.backbones.layers import BatchNorm, Conv
from fteng.backbones.naming import Naming
from fteng.backbones.network import Network, Stage, make_network
from fteng.backbones.weights import Weights

SIZE = 8


class _Normed(nnx.Module):
    def __init__(self, rng: np.random.Generator):
        self.conv = Conv(3, 4, size=3, padding=1, bias=True, gain=1.0, rng=rng)
        self.norm = BatchNorm(4, epsilon=1e-5)

    def __call__(self, x: jax.Array, how: Pass) -> jax.Array:
        return jax.nn.relu(self.norm(self.conv(x), how))


class _Plain(nnx.Module):
    def __init__(self, rng: np.random.Generator):
        self.conv = Conv(4, 6, size=3, stride=2, padding=1, bias=True, gain=2.0, rng=rng)

    def __call__(self, x: jax.Array, _how: Pass) -> jax.Array:
        return self.conv(x)


def tiny_network() -> Network:
    preprocess = Preprocess((120.0, 110.0, 100.0), (60.0, 61.0, 62.0), "RGB", "bilinear", SIZE)
    stages = [Stage("normed", 4, _Normed), Stage("plain", 6, _Plain)]
    return make_network("tiny", stages, groups={}, namings=[Naming("ours", {}, frozenset(), preprocess)])


def tiny_weights(network: Network, digest: str = "d" * 64) -> Weights:
    """With statistics that are not those of a fresh layer."""
    params, stats = network.initial(0)
    stats = ({"norm": {"mean": np.linspace(-1, 1, 4, dtype=np.float32), "var": np.full(4, 0.7, np.float32)}}, stats[1])
    return Weights(params, stats, None, digest, "ours")


def images(count: int, seed: int = 0) -> np.ndarray:
    """Bytes that differ from image to image in brightness and contrast."""
    rng = np.random.default_rng(seed)
    levels = rng.uniform(20, 200, (count, 1, 1, 3))
    return np.clip(rng.normal(levels, rng.uniform(2, 50, (count, 1, 1, 1)), (count, SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
