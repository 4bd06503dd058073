"""Writes VGG16's golden files from Keras 3: weights drawn by their names in Keras' own files. Needs keras (with jax) and h5py."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import h5py
import keras
import numpy as np
from drawn import draw, image_batch

HERE = Path(__file__).parent


def main() -> None:
    """The convolutions under the names of both kinds of file, and the whole under the newer's."""
    convolutions = [
        f"block{block}_conv{number}" for block, count in enumerate((2, 2, 3, 3, 3), 1) for number in range(1, count + 1)
    ]
    # What ends a block is its pooling.
    layers = {name: name for name in convolutions} | {
        f"block{block}_conv{count}": f"block{block}_pool" for block, count in enumerate((2, 2, 3, 3, 3), 1)
    }
    trunk = keras.applications.VGG16(weights=None, include_top=False, pooling="avg", input_shape=(64, 64, 3))
    record("vgg16_keras_trunk", trunk, layers, 64, ".weights.h5")
    record("vgg16_keras_h5_trunk", trunk, layers, 64, ".h5")
    whole = keras.applications.VGG16(weights=None, classifier_activation=None)
    record("vgg16_keras", whole, {"fc6": "fc1", "fc7": "fc2"}, 224, ".weights.h5")


def record(name: str, model: Any, layers: dict[str, str], size: int, kind: str) -> None:
    """Writes NAME.npz, of the form that torch_side.py describes. layers: our stage -> the layer whose output is the stage's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{kind}"
        (model.save if kind == ".h5" else model.save_weights)(path)
        shapes: dict[str, list[int]] = {}
        with h5py.File(path, "r+") as file:
            root = file["model_weights"] if kind == ".h5" else file

            def fill(inside: str, node: Any) -> None:
                if isinstance(node, h5py.Dataset):
                    shapes[inside] = list(node.shape)
                    node[...] = draw(inside, node.shape)

            root.visititems(fill)
        model.load_weights(path)
    outputs = [model.get_layer(layer).output for layer in layers.values()]
    *taps, logits = keras.Model(model.input, [*outputs, model.output])(image_batch(2, size))
    kept = {f"tap/{stage}": pooled(np.asarray(tap)) for stage, tap in zip(layers, taps, strict=True)}
    np.savez_compressed(
        HERE / f"{name}.npz",
        shapes=np.array(json.dumps(shapes)),
        versions=np.array(f"keras {keras.__version__}"),
        size=np.array(size),
        logits=np.asarray(logits),
        **kept,
    )
    print(f"{name}.npz: {(HERE / f'{name}.npz').stat().st_size / 1024:.0f} KiB")


def pooled(y: np.ndarray) -> np.ndarray:
    """Averaged over places, where there are any."""
    return y.mean((1, 2)) if y.ndim == 4 else y


if __name__ == "__main__":
    main()
