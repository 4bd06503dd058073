"""The model as one StableHLO program, from pixels to calibrated probabilities, that runs wherever jax does."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import export
from jaxtyping import Array, Float, UInt8

from fteng.freeze.partition import Parameters
from fteng.model import Model

PLATFORMS = ("cpu", "cuda", "tpu")
# Other devices, and other releases of a compiler, round otherwise than in full float32 only where they are allowed to.
PRECISION = "highest"

Classify = Callable[[UInt8[Array, "n side side 3"]], Float[Array, "n classes"]]


def classifier(model: Model, temperature: float) -> Classify:
    """From uint8 RGB images to probabilities, softmax of logits / temperature; the weights are constants of the program.

    Written for one image and mapped, so that no choice made for speed depends on the number of images, which may stay open.
    """
    backbone, end = model.backbone, len(model.plan.stages)
    parameters: Parameters = model.parameters

    def one(image: UInt8[Array, "side side 3"]) -> Float[Array, "classes"]:
        y, _ = backbone.apply(parameters.stages, model.stats, backbone.preprocess.apply(image[None]), stop=end)
        logits = backbone.pool(y) @ parameters.head["kernel"] + parameters.head["bias"]
        return jax.nn.softmax(logits[0] / temperature)

    return jax.vmap(one)


def serialize(model: Model, temperature: float) -> bytes:
    """The program for any number of images and for `PLATFORMS`."""
    size = model.config.data.image_size
    (count,) = export.symbolic_shape("n", constraints=["n >= 1"])
    images = jax.ShapeDtypeStruct((count, size, size, 3), jnp.uint8)
    with jax.default_matmul_precision(PRECISION):
        return bytes(export.export(jax.jit(classifier(model, temperature)), platforms=PLATFORMS)(images).serialize())
