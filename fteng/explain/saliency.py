"""Where the network saw its answer, and where it saw what the image is, in images that it got wrong."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, UInt8
from PIL import Image

from fteng.explain.look import Look, all_stages
from fteng.model import Model

_PICTURE = 128
_MAP = 32
# Of the overlay where evidence is strongest, of 255.
_OPAQUE = 160
_ANSWER, _TRUTH = (255, 94, 0), (0, 114, 255)


def explain_mistakes(
    model: Model,
    look: Look,
    images: UInt8[np.ndarray, "n side side 3"],
    rows: Int[np.ndarray, "m"],
    answers: Sequence[int],
    truths: Sequence[int],
) -> dict[str, Any]:
    """The pictures of these rows: a small JPEG, and two PNGs to lay over it, evidence for the answer and for the truth, in base64.

    method: see `method_of`; stage: whose places are shown; places: (down, across).
    """
    params, stats = all_stages(model)
    seen = look.outputs(params, stats, images, rows)
    maps = evidence(model, look, seen, np.stack([np.asarray(answers), np.asarray(truths)], axis=1))
    shown = []
    for row, pair in zip(rows.tolist(), maps, strict=True):
        # One scale for both, so that the fainter of the two is the weaker evidence.
        top = float(pair.max())
        answer, truth = (_overlay(one, top, colour) for one, colour in zip(pair, (_ANSWER, _TRUTH), strict=True))
        shown.append({"jpeg": _jpeg(images[row]), "answer": answer, "truth": truth})
    return {
        "method": method_of(model, look),
        "stage": model.backbone.stages[look.stage],
        "places": list(maps.shape[2:]),
        "mistakes": shown,
    }


def method_of(model: Model, look: Look) -> str:
    """`cam`: the head reads the average of these places, so the map is exact (Zhou et al. 2016); `grad_cam`: stages that see no
    places lie between (Selvaraju et al. 2017); `gradient_input`: of tokens, gradient times patch (Shrikumar et al. 2017)."""
    if look.tokens:
        return "gradient_input"
    return "cam" if look.stage == len(model.plan.stages) - 1 else "grad_cam"


def evidence(
    model: Model, look: Look, seen: Float32[np.ndarray, "m *place c"], classes: Int[np.ndarray, "m 2"]
) -> Float32[np.ndarray, "m 2 down across"]:
    """How much each place of the output of `look.stage` speaks for each of two classes, in logits over the mean of all classes.

    Exact where the head reads that output: all places sum to the logit less the bias. What speaks against a class is negative.
    """
    backbone, end = model.backbone, len(model.plan.stages)

    def maps(stages: Any, stats: Any, head: Any, y: Float[Array, "m *place c"], wanted: Int[Array, "m 2"]) -> Array:
        def logits(y: Float[Array, "m *place c"]) -> Float[Array, "m classes"]:
            z, _ = backbone.apply(stages, stats, y, start=look.stage + 1, stop=end)
            return backbone.pool(z) @ head["kernel"] + head["bias"]

        scores, pull = jax.vjp(logits, y)
        found = []
        for index in range(2):
            # A constant added to all logits changes no answer: evidence is what sets a class apart from the mean of all.
            (slope,) = pull(jax.nn.one_hot(wanted[:, index], scores.shape[1]) - 1 / scores.shape[1])
            if look.tokens:
                # The class token is no place.
                patches = (slope * y)[:, 1:].sum(axis=-1)
                side = round(patches.shape[1] ** 0.5)
                found.append(patches.reshape(len(patches), side, side))
            else:
                found.append((y * slope.mean(axis=(1, 2), keepdims=True)).sum(axis=-1))
        return jnp.stack(found, axis=1)

    parameters = model.parameters
    return np.asarray(jax.jit(maps)(parameters.stages, model.stats, parameters.head, seen, classes))


def _jpeg(image: UInt8[np.ndarray, "side side 3"]) -> str:
    small = Image.fromarray(np.asarray(image))
    small.thumbnail((_PICTURE, _PICTURE))
    return _encoded(small, "JPEG", quality=80)


def _overlay(values: Float32[np.ndarray, "down across"], top: float, colour: tuple[int, int, int]) -> str:
    """A PNG that is the more opaque the more a place speaks for the class; empty text where none does."""
    share = np.clip(values / top, 0, 1) if top > 0 else np.zeros_like(values)
    if not share.any():
        return ""
    smooth = Image.fromarray(np.round(share * _OPAQUE).astype(np.uint8)).resize((_MAP, _MAP), Image.Resampling.BILINEAR)
    whole = Image.new("RGBA", (_MAP, _MAP), (*colour, 0))
    whole.putalpha(smooth)
    return _encoded(whole, "PNG", optimize=True)


def _encoded(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
