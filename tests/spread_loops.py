"""What loops over images, and the survey's pass, on four emulated devices: one JSON line each; run as a script by `test_mesh`."""

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fteng.backbones import convolution
from fteng.backbones.catalogue import load
from fteng.config import BackboneConfig
from fteng.mesh import ALONE, Mesh, make_mesh
from fteng.probe import features
from tests.spread_step import KINDS

IMAGES = 8


def places(text: str) -> dict[str, list[str]]:
    """Kinds of collectives in the program itself, and in what it calls (conditions, loops)."""
    found: dict[str, list[str]] = {"entry": [], "called": []}
    where = "called"
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith(" "):
            where = "entry" if line.startswith("ENTRY") else "called"
        found[where] += re.findall(rf" ({KINDS})(?:-start)?\(", line)
    return {where: sorted(set(kinds)) for where, kinds in found.items()}


def tell(name: str, program: Callable[[Mesh], Any], arguments: Callable[[Mesh], tuple[Any, ...]]) -> None:
    """program: of a mesh, a jitted function of `arguments` on it."""
    ended, text = [], ""
    for mesh in (ALONE, make_mesh(4, IMAGES)):
        with mesh.tracing():
            given = arguments(mesh)
            compiled = program(mesh).lower(*given).compile()
        text = compiled.as_text()
        ended.append(jax.tree.map(np.asarray, compiled(*given)))
    pairs = zip(*map(jax.tree.leaves, ended), strict=True)
    apart = max(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)) for a, b in pairs)
    print(json.dumps({"case": name, "apart": apart, **places(text)}), flush=True)


def gradients(convolve: Callable[..., Any], mesh: Mesh) -> Any:
    """With respect to images and kernel, of a sum over the output."""

    def run(x: Any, weights: Any) -> Any:
        of_images, of_weights = jax.grad(lambda *given: jnp.mean(convolve(*given, 1) ** 2), argnums=(0, 1))(x, weights)
        return mesh.split(of_images), mesh.join(of_weights)

    return jax.jit(run)


def main() -> None:
    rng = np.random.default_rng(0)
    shapes = {
        "depthwise": (convolution.depthwise, (24, 24, 16), (3, 3, 1, 16)),
        "patches in groups": (convolution.dense, (96, 96, 16), (5, 5, 16, 8)),
        "winograd in groups": (convolution.dense, (96, 96, 128), (3, 3, 128, 128)),
    }
    for name, (convolve, image, kernel) in shapes.items():
        x, weights = (rng.normal(size=shape).astype(np.float32) for shape in ((IMAGES, *image), kernel))
        tell(name, partial(gradients, convolve), lambda mesh, x=x, weights=weights: (mesh.batch(x), mesh.whole(weights)))
    backbone, weights = load(BackboneConfig("resnet18", "random"))
    shown = rng.integers(0, 256, (IMAGES, 32, 32, 3)).astype(np.uint8)

    def survey(mesh: Mesh) -> tuple[Any, ...]:
        return *mesh.whole((weights.params, weights.stats)), mesh.batch(shown), mesh.whole(jnp.asarray(True))

    tell("survey", lambda mesh: features._one_batch(backbone, mesh), survey)


if __name__ == "__main__":
    main()
