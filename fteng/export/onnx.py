"""The model for ONNX runtimes, by the converter jax2onnx, which takes no open number of images here: one at a time."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from fteng.backbones.files.extra import need
from fteng.errors import UserError
from fteng.export.program import classifier
from fteng.model import Model


def write_onnx(model: Model, temperature: float, out: Path) -> None:
    """From uint8 RGB pixels (1, side, side, 3) to calibrated probabilities. Raises UserError where the converter cannot."""
    converter = need("jax2onnx", "onnx-out", "--onnx")
    size = model.config.data.image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8)
    try:
        converter.to_onnx(classifier(model, temperature), [images], return_mode="file", output_path=str(out))
    except (NotImplementedError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--onnx: jax2onnx cannot convert {model.backbone.name} ({reason}); leave --onnx out") from None


def run_onnx(file: Path, images: UInt8[np.ndarray, "n side side 3"]) -> Float[np.ndarray, "n classes"]:
    """What ONNX Runtime makes of the file on its CPU, image by image."""
    runtime = need("onnxruntime", "onnx-out", "checking an ONNX model")
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: image[None]})[0] for image in images])
