"""What trials start from, and what one of them takes of it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from fteng.backbones.backbone import BatchNormMode
from fteng.freeze import partition
from fteng.freeze.partition import Parameters
from fteng.mesh import ALONE, Mesh
from fteng.train.shape import Shape

Tree = Any


class Start(NamedTuple):
    """What trials start from, never changed.

    stages, stats: of the whole backbone; heads: tap -> `kernel` and `bias`; identity: backbone and digest of the numbers, for
    checkpoints; source: host copies of stages and stats, made before any training, for the audit.
    """

    stages: tuple[Tree, ...]
    stats: tuple[Tree, ...]
    heads: Mapping[str, Tree]
    identity: dict[str, str]
    source: tuple[tuple[Tree, ...], tuple[Tree, ...]]


class Untrained(NamedTuple):
    """The network of a trial before its first step: stages and statistics up to the tap, and its head. mask: what of the parameters
    trains; modes: of batch norm, one a stage."""

    parameters: Parameters
    stats: tuple[Tree, ...]
    mask: Parameters
    modes: tuple[BatchNormMode, ...]


def untrained(start: Start, shape: Shape, mesh: Mesh = ALONE) -> Untrained:
    """What a trial of this shape takes of its start. mesh: the lane that it is on."""
    end = len(shape.plan.stages)
    parameters, stats = mesh.seen((Parameters(start.stages[:end], start.heads[shape.plan.tap]), start.stats[:end]))
    return Untrained(parameters, stats, partition.trainable_mask(shape.plan, parameters), shape.modes)
