"""A Flax network of your own as the engine runs networks: its modules as stages with their numbers, and the numbers back.

Its modules stay as they are. In a copy of them batch norm and dropout are put under the engine's hand: what batch norm normalises
with, and whether dropout drops, is then said by the freeze plan, not by `model.train()` or by flags that the modules pass.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from fteng.backbones.backbone import Backbone, BatchNormMode, Pass, Preprocess
from fteng.backbones.layers import dropout, moments
from fteng.backbones.weights import Weights
from fteng.errors import UserError

Tree = Any
# One number for all channels, or one each for R, G, B.
Scale = float | int | Sequence[float | int]
Body = nnx.Module | Callable[[jax.Array], jax.Array]


def mean_over_places(y: Float[Array, "n *place c"]) -> Float[Array, "n c"]:
    """Global average pooling of maps, tokens, or vectors, which are what they are."""
    return jnp.mean(y, axis=tuple(range(1, y.ndim - 1)))


def from_flax(
    stages: Mapping[str, Body],
    *,
    image_size: int,
    mean: Scale,
    std: Scale,
    pool: Callable[[jax.Array], jax.Array] = mean_over_places,
) -> tuple[Backbone, Weights]:
    """Your network, and the numbers it has now: what every function of the engine takes, as `catalogue.load` gives them.

    stages: name -> `flax.nnx` module or function, in the order in which they run, each called as stage(x) on the output of the one
    before, without the classifier. A module's parameters are `nnx.Param` in float32, its statistics those of `nnx.BatchNorm`;
    a function has no numbers of its own. image_size: pixels, height and width. mean, std: on the 0..255 scale, one number or one
    each for R, G, B; the first stage is given (image - mean) / std, (n, image_size, image_size, 3). pool: from a stage's output
    (n, ..., c) to its features (n, channels).

    Batch norm runs with the statistics it has now wherever a plan does not say otherwise; dropout drops behind the boundary.
    Raises UserError on what cannot be run so, with the name of the stage.
    """
    if not stages:
        raise UserError("from_flax: got no stage, allowed: one or more; give {name: module, ...} in the order they run in")
    _check_apart(stages)
    parts = [_split(name, body) for name, body in stages.items()]
    params, stats = tuple(part[1] for part in parts), tuple(part[2] for part in parts)
    preprocess = Preprocess(_triple("mean", mean), _triple("std", std), "RGB", "bilinear", image_size)
    if min(preprocess.std) <= 0:
        raise UserError(f"from_flax: std: got {std}, allowed: above 0, on the 0..255 scale")
    graphdefs = tuple(part[0] for part in parts)
    blank = Backbone("own", tuple(stages), MappingProxyType({}), (0,) * len(stages), preprocess, graphdefs, pool)
    backbone = dataclasses.replace(blank, channels=_channels(blank, params, stats))
    return backbone, Weights(params, stats, None, _digest(tuple(stages), params, stats), "")


def to_flax(stages: Mapping[str, Body], params: Sequence[Tree], stats: Sequence[Tree]) -> None:
    """Writes the numbers, copied, into the modules that `from_flax` was given.

    params, stats: one tree a stage, from the first on; where they end at an earlier tap, later stages stay as they are.
    Raises UserError where they are more than the stages.
    """
    if not len(params) == len(stats) <= len(stages):
        raise UserError(f"to_flax: got {len(params)} params and {len(stats)} stats for {len(stages)} stages; give one a stage")
    for body, *trees in zip(stages.values(), params, stats, strict=False):
        if isinstance(body, nnx.Module):
            # Copies: a step of training takes the buffers of the state before.
            nnx.update(body, *(nnx.State(jax.tree.map(jnp.copy, tree["body"])) for tree in trees if tree))


class _Stage(nnx.Module):
    """A stage of somebody's network, called as the engine calls stages. body: their module, or function."""

    def __init__(self, body: Body) -> None:
        self.body = body

    def __call__(self, x: Float[Array, "n *place c"], how: Pass) -> Any:
        for number, layer in enumerate(_layers(self.body)):
            if isinstance(layer, _BatchNorm):
                layer.mode = how.batch_norm
                layer.momentum = nnx.data(how.momentum)  # pyright: ignore[reportAttributeAccessIssue] - may be traced
            elif isinstance(layer, _Dropout):
                layer.key = nnx.data(None if how.key is None else jax.random.fold_in(how.key, number))
        return self.body(x)


class _BatchNorm(nnx.BatchNorm):
    """Flax's own, on the same variables, with the mode that the engine says."""

    def __init__(self, layer: nnx.BatchNorm) -> None:
        super().__init__(
            layer.num_features,
            momentum=layer.momentum,
            epsilon=layer.epsilon,
            dtype=layer.dtype,
            param_dtype=layer.param_dtype,
            use_bias=layer.use_bias,
            use_scale=layer.use_scale,
            use_fast_variance=layer.use_fast_variance,
            promote_dtype=layer.promote_dtype,
            rngs=nnx.Rngs(0),
        )
        self.mean, self.var, self.scale, self.bias = layer.mean, layer.var, layer.scale, layer.bias
        self.mode = BatchNormMode.KEEP

    def __call__(
        self, x: Float[Array, "n *place c"], use_running_average: bool | None = None, *, mask: jax.Array | None = None
    ) -> Float[Array, "n *place c"]:
        del use_running_average
        if mask is not None:
            raise UserError("batch norm with a mask cannot be used here; leave it away")
        y = super().__call__(x, use_running_average=self.mode is not BatchNormMode.BATCH)
        if self.mode is BatchNormMode.OBSERVE:
            self.mean[...], self.var[...] = moments(x.astype(jnp.float32))
        return y


class _Dropout(nnx.Module):
    """Drops by the key that the engine gives, and without one not at all."""

    def __init__(self, layer: nnx.Dropout) -> None:
        self.rate = layer.rate
        self.key: jax.Array | None = nnx.data(None)

    def __call__(self, inputs: Float[Array, "*shape"], *, deterministic: bool | None = None, rngs: Any = None) -> jax.Array:
        del deterministic, rngs
        return dropout(inputs, self.rate, Pass(key=self.key))


def _layers(body: Body) -> Iterator[nnx.Module]:
    return (layer for _, layer in nnx.iter_modules(body)) if isinstance(body, nnx.Module) else iter(())


def _split(name: str, body: Body) -> "tuple[nnx.GraphDef[Any], Tree, Tree]":
    """The stage without its numbers, and they: parameters and statistics."""
    if not callable(body):
        raise UserError(f"stage {name!r}: got {type(body).__name__}, allowed: a flax.nnx module or a function of x; name what runs")
    stage = _Stage(nnx.recursive_map(lambda _, node: _ours(name, node), body, graph=True) if isinstance(body, nnx.Module) else body)
    graphdef, params, stats, rest = nnx.split(stage, nnx.Param, nnx.BatchStat, ...)
    known = {(*path, kind) for path, layer in nnx.iter_modules(stage) if isinstance(layer, _BatchNorm) for kind in ("mean", "var")}
    foreign = [*nnx.to_flat_state(rest), *((path, leaf) for path, leaf in nnx.to_flat_state(stats) if path not in known)]
    for path, leaf in foreign:
        where = ".".join(str(part) for part in path[1:])
        raise UserError(
            f"stage {name!r} holds a {type(leaf).__name__} at {where!r}; allowed: nnx.Param, and the statistics of nnx.BatchNorm:"
            " keep no nnx.Rngs in a module, make an array an nnx.Param or compute it where it is used"
        )
    for path, leaf in [*nnx.to_flat_state(params), *nnx.to_flat_state(stats)]:
        if leaf.dtype != jnp.float32:
            where = ".".join(str(part) for part in path[1:])
            raise UserError(f"stage {name!r}: {where} is {leaf.dtype}, allowed: float32; make the module with param_dtype=float32")
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def _ours(name: str, node: Any) -> Any:
    """What takes the place of a layer that must know how it is run. Raises UserError where nothing can."""
    if type(node) is nnx.BatchNorm:
        if node.axis != -1 or node.axis_name is not None:
            raise UserError(f"stage {name!r}: batch norm over axis {node.axis} ({node.axis_name}), allowed: axis=-1, no axis_name")
        return _BatchNorm(node)
    if type(node) is nnx.Dropout:
        if node.broadcast_dims:
            raise UserError(f"stage {name!r}: dropout with broadcast_dims={node.broadcast_dims}, allowed: none")
        return _Dropout(node)
    if isinstance(node, (nnx.BatchNorm, nnx.Dropout)):
        raise UserError(f"stage {name!r} has a {type(node).__name__} of its own making; allowed: nnx.BatchNorm, nnx.Dropout")
    return node


def _check_apart(stages: Mapping[str, Body]) -> None:
    """What two stages share would be tuned as two, and could be frozen in one alone."""
    owner: dict[int, str] = {}
    for name, body in stages.items():
        nodes = nnx.iter_graph(body) if isinstance(body, nnx.Module) else ()
        for mine in {id(node) for _, node in nodes if isinstance(node, nnx.Variable)}:
            if owner.setdefault(mine, name) != name:
                raise UserError(
                    f"stages {owner[mine]!r} and {name!r} share parameters; allowed: each stage its own; make one of them"
                )


def _channels(backbone: Backbone, params: tuple[Tree, ...], stats: tuple[Tree, ...]) -> tuple[int, ...]:
    """Of each stage's features, found without computing anything. Raises UserError where a stage or `pool` does not run."""
    size = backbone.preprocess.image_size
    x = jax.eval_shape(backbone.preprocess.apply, jax.ShapeDtypeStruct((2, size, size, 3), jnp.uint8))
    found = []
    for index, name in enumerate(backbone.stages):

        def run(x: Any, index: int = index) -> Any:
            return nnx.merge(backbone.graphdefs[index], params[index], stats[index])(x, Pass())

        given, y = x.shape, _tried(f"stage {name!r} does not run on {x.shape}", run, x)
        if not isinstance(y, jax.ShapeDtypeStruct) or y.ndim < 2 or y.shape[0] != 2 or 0 in y.shape or not _floats(y):
            shown = f"{y.dtype} {y.shape}" if isinstance(y, jax.ShapeDtypeStruct) else type(y).__name__
            raise UserError(
                f"stage {name!r} makes {shown} of {given}; allowed: one array of floats (2, ..., channels), none of them 0"
            )
        if not params[index] and not stats[index] and _constants(run, x):
            raise UserError(
                f"stage {name!r} is a function that holds jax arrays of its own, which would be no parameters; give the nnx module"
                " itself, or several as nnx.Sequential(...); make a constant a numpy array"
            )
        features = _tried(f"pool does not run on the output {y.shape} of stage {name!r}", backbone.pool, y)
        if features.ndim != 2 or features.shape[0] != 2:
            raise UserError(f"pool makes {features.shape} of {y.shape}, allowed: (2, channels)")
        found.append(features.shape[1])
        x = y
    return tuple(found)


def _tried(what: str, function: Callable[[Any], Any], x: jax.ShapeDtypeStruct) -> Any:
    try:
        return jax.eval_shape(function, x)
    except UserError:
        raise
    except Exception as error:  # whatever somebody's module raises
        reason = str(error).strip().splitlines() or [""]
        raise UserError(f"{what}: {type(error).__name__}: {reason[0]}") from error


def _floats(y: Any) -> bool:
    return jnp.issubdtype(y.dtype, jnp.floating)


def _constants(function: Callable[[Any], Any], x: jax.ShapeDtypeStruct) -> bool:
    """Whether arrays of jax, which is what parameters are, are built into it; those of numpy are taken for constants."""
    return any(isinstance(value, jax.Array) and _floats(value) for value in jax.make_jaxpr(function)(x).consts)


def _triple(name: str, value: Scale) -> tuple[float, float, float]:
    values = np.atleast_1d(np.asarray(value, np.float64)).ravel()
    if values.size not in (1, 3) or not np.isfinite(values).all():
        raise UserError(f"from_flax: {name}: got {value}, allowed: one finite number, or three for R, G, B")
    red, green, blue = np.broadcast_to(values, 3).tolist()
    return red, green, blue


def _digest(names: tuple[str, ...], params: Tree, stats: Tree) -> str:
    digest = hashlib.sha256("/".join(names).encode())
    for leaf in jax.tree.leaves((params, stats)):
        digest.update(np.asarray(leaf).tobytes())
    return f"own:{digest.hexdigest()}"
