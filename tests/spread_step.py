"""Three steps on 1, 2, 4 and 8 emulated devices, one JSON line each; run as a script by `test_mesh`, in float64 where jax has it.

A ResNet18 cut behind its second block, 16 images of 16 px: real stages, batch norm, seconds to compile.
"""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np

from fteng.backbones.catalogue import load
from fteng.backbones.flops import stage_flops
from fteng.config import BackboneConfig, Config
from fteng.freeze import partition
from fteng.freeze.plan import prefix_plan
from fteng.mesh import make_mesh
from fteng.train.audit import check_flops
from fteng.train.shape import shape_of
from fteng.train.start import Start, untrained
from fteng.train.step import compile_step, initial_state, lower_step, whole
from fteng.trials import Variant

WIDE = bool(jax.config.read("jax_enable_x64"))
IMAGES, SIZE, CLASSES = 16, 16, 5
BYTES = {"f64": 8, "f32": 4, "s32": 4, "u32": 4, "pred": 1, "u8": 1, "s64": 8, "u64": 8}
KINDS = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"


def collectives(text: str) -> dict[str, int]:
    """Bytes of the results of each kind in a compiled program."""
    found: dict[str, int] = {}
    for shapes, kind in re.findall(rf"= (.*?) ({KINDS})(?:-start)?\(", text):
        for type_, sides in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
            found[kind] = found.get(kind, 0) + BYTES[type_] * int(np.prod([int(side) for side in sides.split(",") if side]))
    return found


def main() -> None:
    backbone, weights = load(BackboneConfig("resnet18", "random"))
    names = backbone.stages[:3]
    channels = backbone.channels[2]
    numbers = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64 if WIDE else jnp.float32), (weights.params, weights.stats))
    params, stats = numbers[0][:3], numbers[1][:3]
    # Adam divides rounding by rounding where a gradient is nothing else; in float64 that is as small as it should be.
    recipe = dataclasses.replace(Config().train, batch_size=IMAGES, optimizer="adamw" if WIDE else "sgd", mixup=0.0)
    rng = np.random.default_rng(0)
    flops = stage_flops(backbone, weights._replace(params=numbers[0], stats=numbers[1]), SIZE, IMAGES, {0, 2})
    images = rng.normal(size=(IMAGES, SIZE, SIZE, 3)).astype(params[0]["conv"]["kernel"].dtype)
    labels = rng.integers(0, CLASSES, IMAGES).astype(np.int32)
    head = {"kernel": jnp.asarray(rng.normal(0, 0.01, (channels, CLASSES)), images.dtype), "bias": jnp.zeros(CLASSES, images.dtype)}
    for name, depth, batch_norm, mixup in (
        ("frozen prefix", 2, "keep", 0.0),
        ("everything", 0, "keep", 0.0),
        ("everything, batch norm follows", 0, "batch_all", 0.0),
        ("mixup", 2, "keep", 0.4),
    ):
        plan, variant, how = prefix_plan(names, depth), Variant(batch_norm=batch_norm), dataclasses.replace(recipe, mixup=mixup)
        shape = shape_of(plan, variant, how)
        x = np.asarray(backbone.apply(params, stats, jnp.asarray(images), stop=shape.entry.stage)[0])
        alone = None
        spread = {"frozen prefix": ((1, False), (2, False), (4, False), (8, False), (8, True)), "mixup": ((1, False), (8, False))}
        for devices, sharded in spread.get(name, ((1, False), (4, False), (8, False))):
            mesh = make_mesh(devices, IMAGES, shard_frozen=sharded)
            start = Start(mesh.frozen(params), mesh.frozen(stats), {plan.tap: mesh.whole(head)}, {}, numbers)
            network = untrained(start, shape, mesh)
            state, frozen = initial_state(network, how, mesh)
            # In float64 its dtype would change in the first step.
            state = state._replace(loss_sum=mesh.whole(jnp.zeros((), images.dtype)))
            batch = mesh.batch(x), mesh.batch(labels)
            small = mesh.whole((jnp.full(len(names) + 1, 1e-3, images.dtype), jax.random.key(0)))
            arguments = (state, frozen, *batch, *small)
            lowered = lower_step(backbone, shape, network.mask, how, np.full(CLASSES, 1 / CLASSES), flops, arguments, mesh)
            program = compile_step(lowered)
            given = jax.tree.leaves(state.trainable)[0]
            for _ in range(3):
                state = program.run(state, frozen, *batch, *small)
            ended = jax.tree.map(np.asarray, whole(state, frozen))
            alone = ended if alone is None else alone
            begun = network.parameters, stats
            moved = max(np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (alone, begun)), strict=True))
            apart = max(np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (alone, ended)), strict=True))
            told = {
                "case": name,
                "devices": devices,
                "sharded": sharded,
                "apart": float(apart / moved),
                "trainable": partition.size_bytes(state.trainable),
                "frozen": partition.size_bytes(frozen),
                "frozen_here": sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(frozen)),
                "collectives": collectives(program.run.as_text()),  # pyright: ignore[reportFunctionMemberAccess]
                "donated": given.is_deleted(),
                "flops": check_flops(plan, program).value,
            }
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
