"""What trials start from: the pretrained network, the same with adapted batch norm, or a control; each with its probes' heads."""

import dataclasses
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fteng import distributed, paths
from fteng.backbones.backbone import Backbone
from fteng.backbones.catalogue import load
from fteng.backbones.weights import Weights, mean_var
from fteng.config import Config
from fteng.data.prepare import Dataset
from fteng.errors import UserError
from fteng.feed import Feed
from fteng.paths import StudyPaths
from fteng.probe.features import extract
from fteng.probe.moments import adapt
from fteng.probe.probe import fit_probe
from fteng.train.start import Start

# Of the controls' weights. One draw a study: seeds of trials vary batches, not the network.
_CONTROL_SEED = 0


class Pretrained(NamedTuple):
    """A backbone with its pretrained numbers, as the config asks for it."""

    config: Config
    backbone: Backbone
    weights: Weights


def prepare_start(
    name: str,
    taps: Collection[str],
    pretrained: Pretrained,
    dataset: Dataset,
    feed: Feed,
    study: StudyPaths,
    on_images: Callable[[int], None],
) -> None:
    """Keep on disk what `read_start` reads, if it is not there: adapted statistics, and the heads of `taps` on the features.
    on_images(k): k more are through a pass.

    Of the pretrained network the probes have already done so. Of several processes the first writes, and the others may return
    before it has.
    """
    kept = study.heads(name)
    if name == "pretrained":
        return
    there = distributed.is_main() and kept.exists()
    done = set(distributed.agree(sorted({key.rpartition("/")[0] for key in _read(kept)} if there else ())))
    if done >= set(taps):
        return
    # A sweep that was made longer asks for more taps; those there were come out the same again.
    taps = [stage for stage in pretrained.backbone.stages if stage in done | set(taps)]
    size = pretrained.config.train.batch_size
    weights = adapt(pretrained.backbone, _weights(name, pretrained), dataset, feed, size, on_images)
    features = extract(pretrained.backbone, weights, dataset, feed, size, on_images)
    if not distributed.is_main():
        return
    arrays: dict[str, Any] = {f"stats/{index}": leaf for index, leaf in enumerate(jax.tree.leaves(weights.stats))}
    for tap in taps:
        found = fit_probe(features.taps[pretrained.backbone.stages.index(tap)], dataset)
        arrays |= {f"{tap}/{part}": values for part, values in found.head.items()}
    paths.write_by(kept, lambda path: np.savez(path, **arrays))


def read_start(name: str, taps: Iterable[str], pretrained: Pretrained, study: StudyPaths) -> Start:
    """The named start (see `trials.Variant.start`) with the heads of `taps`. Raises UserError if one is missing or damaged."""
    weights, kept = _weights(name, pretrained), study.heads(name)
    arrays = _read(kept)
    try:
        if name != "pretrained":
            leaves = [jnp.asarray(arrays[f"stats/{index}"]) for index in range(len(jax.tree.leaves(weights.stats)))]
            weights = weights._replace(stats=jax.tree.unflatten(jax.tree.structure(weights.stats), leaves))
        heads = {tap: {part: jnp.asarray(arrays[f"{tap}/{part}"]) for part in ("kernel", "bias")} for tap in taps}
    except KeyError:
        raise _damaged(kept) from None
    if pretrained.config.train.head_init == "zero":
        heads = jax.tree.map(jnp.zeros_like, heads)
    digest = weights.digest if name == "pretrained" else f"{name} of {weights.digest}"
    source = jax.tree.map(np.array, (weights.params, weights.stats))
    return Start(weights.params, weights.stats, heads, {"backbone": pretrained.backbone.name, "weights": digest}, source)


def _weights(name: str, pretrained: Pretrained) -> Weights:
    init = name.removesuffix("-adapted")
    if init == "random":
        return load(dataclasses.replace(pretrained.config.backbone, weights="random"), seed=_CONTROL_SEED)[1]
    return mean_var(pretrained.weights, _CONTROL_SEED) if init == "mean_var" else pretrained.weights


def _read(file: Path) -> Mapping[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as loaded:
            return dict(loaded)
    except (OSError, ValueError, zipfile.BadZipFile):
        raise _damaged(file) from None


def _damaged(file: Path) -> UserError:
    return UserError(f"{file} is damaged; delete the folder {file.parent} and run the same command")
