"""What the model sees in a batch of images: the features its head reads, and its logits."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, Int, UInt8

from fteng.feed import padded
from fteng.model import Model
from fteng.predict.views import View


class Outputs(NamedTuple):
    """features: of the tap, mean over the views; logits: of the head. Both still on their way while the device works."""

    features: Float[Array, "b features"]
    logits: Float[Array, "b classes"]


See = Callable[[UInt8[np.ndarray, "b side side 3"]], Outputs]


def make_see(model: Model, views: Sequence[View]) -> See:
    """From images to what the model sees in them. The head is linear, so mean features give mean logits."""
    backbone, end = model.backbone, len(model.plan.stages)

    def tapped(stages: Any, stats: Any, images: UInt8[Array, "b side side 3"]) -> Float[Array, "b features"]:
        y, _ = backbone.apply(stages, stats, backbone.preprocess.apply(images), stop=end)
        return backbone.pool(y)

    def judged(head: Any, parts: list[Float[Array, "b features"]]) -> Outputs:
        features = sum(parts[1:], parts[0]) / len(parts)
        return Outputs(features, features @ head["kernel"] + head["bias"])

    run, judge = jax.jit(tapped), jax.jit(judged)

    def see(images: UInt8[np.ndarray, "b side side 3"]) -> Outputs:
        parts = [run(model.parameters.stages, model.stats, np.ascontiguousarray(view(images))) for view in views]
        return judge(model.parameters.head, parts)

    return see


def see_rows(
    images: UInt8[np.ndarray, "n side side 3"],
    rows: Int[np.ndarray, "m"],
    see: See,
    size: int,
    on_images: Callable[[int], None],
) -> tuple[Float32[np.ndarray, "m features"], Float32[np.ndarray, "m classes"]]:
    """(features, logits) of these rows, in batches of one shape. on_images(k): k more are through."""
    parts: list[Outputs] = []
    for part, count in padded(rows, size):
        seen = see(np.asarray(images[part]))
        parts.append(Outputs(*(np.asarray(values)[:count] for values in seen)))  # pyright: ignore[reportArgumentType]
        on_images(count)
    return np.concatenate([part.features for part in parts]), np.concatenate([part.logits for part in parts])
