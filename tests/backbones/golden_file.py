"""Our side of a golden file: drawn weights through the network's own naming, then the same images."""

import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fteng.backbones.backbone import BatchNormMode
from fteng.backbones.catalogue import find
from fteng.backbones.network import truncate
from fteng.backbones.weights import Weights, fit

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))

from drawn import draw_all, image_batch  # noqa: E402  # pyright: ignore[reportMissingImports]


def compare(network_name: str, file: str, *, tolerance: float = 1e-4, skip: tuple[str, ...] = (), last_stage: str = "") -> None:
    """Every tap and the logits equal the original's, in inference and, where the file has it, in training mode.

    last_stage: the file is of the network up to this stage, without a classifier.
    """
    with np.load(GOLDEN / f"{file}.npz", allow_pickle=False) as loaded:
        golden: dict[str, Any] = dict(loaded)
    network = find(network_name)
    if last_stage:
        network = truncate(network, network.backbone.stages.index(last_stage) + 1)
    weights = fit(network, draw_all(json.loads(str(golden["shapes"]))), "drawn", file)
    backbone = network.backbone
    modes = {"": BatchNormMode.KEEP} | ({"train/": BatchNormMode.BATCH} if "train/logits" in golden else {})
    x = jnp.asarray(image_batch(len(golden["logits"]), int(golden["size"])))
    for prefix, mode in modes.items():
        outputs, _ = jax.jit(backbone.outputs, static_argnames="modes")(weights.params, weights.stats, x, modes=mode)
        taps = [backbone.pool(y) for y in outputs]
        for stage, got in zip(backbone.stages, taps, strict=True):
            if stage not in skip:
                _close(got, golden[f"{prefix}tap/{stage}"], tolerance, f"{prefix}{stage}")
        _close(
            _answers(taps[-1], weights, golden[f"{prefix}logits"].shape[1]), golden[f"{prefix}logits"], tolerance, f"{prefix}logits"
        )


def _answers(features: jax.Array, weights: Weights, width: int) -> jax.Array:
    """(n, features) -> (n, width): what the whole network says; without a classifier its first features, the class token."""
    if weights.source_head is None:
        return features[:, :width]
    kernel, bias = weights.source_head["kernel"], weights.source_head["bias"]
    return features[:, : kernel.shape[0]] @ kernel + bias


def _close(got: Any, wanted: np.ndarray, tolerance: float, what: str) -> None:
    """Relative to the size of the whole array: single values near zero have no relative error worth the name."""
    assert got.shape == wanted.shape, what
    error = np.abs(np.asarray(got) - wanted).max() / np.abs(wanted).max()
    assert error < tolerance, f"{what}: {error:.2e}"
