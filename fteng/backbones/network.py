"""A network: its stages as modules, and the namings of the files that hold its numbers."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from fteng.backbones.backbone import Backbone, average
from fteng.backbones.naming import Naming

Tree = Any
# Params and stats, one tree a stage.
Trees = tuple[tuple[Tree, ...], tuple[Tree, ...]]


class Stage(NamedTuple):
    """One stage to be: channels of its pooled output; build: a random generator -> the module, called as module(x, Pass)."""

    name: str
    channels: int
    build: Callable[[np.random.Generator], nnx.Module]


class PackageFile(NamedTuple):
    """A weights file in a Python package: `requirement` installs it, `path` finds it or raises ImportError."""

    requirement: str
    path: Callable[[], Path]
    sha256: str


class Network(NamedTuple):
    """What a family says of one network.

    initial: (seed, end) -> params and stats of the first `end` stages, or all, at a random start; shapes: of all of them, as
    `jax.ShapeDtypeStruct`; namings: of its files, the one whose preprocessing holds for random weights first; package: the file
    that `weights=package` means, where some package has one; head_features: how many of the last tap's features the published
    classifier reads, the first ones.
    """

    backbone: Backbone
    initial: Callable[..., Trees]
    shapes: Trees
    namings: tuple[Naming, ...]
    package: PackageFile | None
    head_features: int


def make_network(
    name: str,
    stages: Sequence[Stage],
    *,
    groups: Mapping[str, Iterable[str]],
    namings: Sequence[Naming],
    package: PackageFile | None = None,
    pool: Callable[[jax.Array], jax.Array] = average,
    head_features: int | None = None,
) -> Network:
    """The network of these stages. groups: coarse name -> names of consecutive stages; head_features: see `Network` (all)."""

    def build(rng: np.random.Generator, end: int | None = None) -> list[nnx.Module]:
        return [stage.build(rng) for stage in stages[:end]]

    def initial(seed: int, end: int | None = None) -> Trees:
        return _trees(build(np.random.default_rng(seed), end))

    modules = nnx.eval_shape(lambda: build(np.random.default_rng(0)))
    backbone = Backbone(
        name=name,
        stages=tuple(stage.name for stage in stages),
        groups=MappingProxyType({group: tuple(names) for group, names in groups.items()}),
        channels=tuple(stage.channels for stage in stages),
        preprocess=namings[0].preprocess,
        graphdefs=tuple(nnx.graphdef(module) for module in modules),
        pool=pool,
    )
    return Network(backbone, initial, _trees(modules), tuple(namings), package, head_features or stages[-1].channels)


def truncate(network: Network, end: int) -> Network:
    """The first `end` stages; what the files hold of later ones, and the source classifier, is ignored."""
    whole = network.backbone
    if end == len(whole.stages):
        return network
    stages = whole.stages[:end]
    groups = {name: tuple(stage for stage in members if stage in stages) for name, members in whole.groups.items()}
    backbone = dataclasses.replace(
        whole,
        stages=stages,
        groups=MappingProxyType({name: members for name, members in groups.items() if members}),
        channels=whole.channels[:end],
        graphdefs=whole.graphdefs[:end],
    )
    namings = tuple(_first_stages(naming, end) for naming in network.namings)
    return network._replace(
        backbone=backbone,
        initial=lambda seed: network.initial(seed, end),
        shapes=(network.shapes[0][:end], network.shapes[1][:end]),
        namings=namings,
    )


def _trees(modules: Sequence[nnx.Module]) -> Trees:
    parts = [nnx.split(module, nnx.Param, nnx.BatchStat) for module in modules]
    params = tuple(nnx.to_pure_dict(param) for _, param, _ in parts)
    return params, tuple(nnx.to_pure_dict(stat) for _, _, stat in parts)


def _first_stages(naming: Naming, end: int) -> Naming:
    kept = {name: slot for name, slot in naming.slots.items() if slot.collection != "head" and slot.stage < end}
    return naming._replace(slots=kept, unused=naming.unused | (set(naming.slots) - set(kept)))
