"""A tuned network as one safetensors file, in the names of torchvision, timm or Keras."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from fteng.backbones.backbone import Preprocess
from fteng.backbones.catalogue import find
from fteng.backbones.files.write import write_safetensors
from fteng.backbones.network import truncate
from fteng.backbones.weights import named
from fteng.data.pixels import settings_of
from fteng.errors import UserError
from fteng.model import Model


def write_weights(model: Model, out: Path, naming_name: str = "") -> list[str]:
    """Write the file; what it says of itself: backbone, stages, classes in order, how images are scaled, and the trial it is.

    naming_name: whose tensor names, empty for those the weights came in. Returns what there is to say. Raises UserError.
    """
    network, end = find(model.config.backbone.name), len(model.plan.stages)
    namings = {naming.name: naming for naming in network.namings}
    wanted = naming_name or model.source.naming or network.namings[0].name
    if wanted not in namings:
        raise UserError(f"--naming: got {wanted!r}, allowed for {network.backbone.name}: {', '.join(namings)}")
    naming, said = namings[wanted], []
    whole = end == len(network.backbone.stages)
    if not whole:
        naming = next(short for short in truncate(network, end).namings if short.name == wanted)
        said.append(f"the network ends after {model.plan.tap}: later stages are not in the file, and strict loaders will say so")
    head: Any = {name: np.asarray(values) for name, values in model.parameters.head.items()}
    fits = any(slot.collection == "head" for slot in naming.slots.values()) and len(head["kernel"]) == network.head_features
    tensors = named(naming, model.parameters.stages, model.stats, head if fits else None)
    if not fits:
        tensors |= {f"fteng.head.{name}": values for name, values in head.items()}
        said.append(
            f"the classifier reads {len(head['kernel'])} features, which {naming.name} has no name for: it is in the file as"
            " fteng.head.kernel (features, classes) and fteng.head.bias"
        )
    write_safetensors(
        out,
        tensors,
        {
            "backbone": network.backbone.name,
            "naming": naming.name,
            "last_stage": model.plan.tap,
            "classes": json.dumps(model.classes),
            "preprocess": json.dumps(as_studied(model)._asdict()),
            "resize": model.config.data.resize,
            "trial": model.name,
            "source": model.source.digest,
        },
    )
    return [f"{model.name} as {out} ({out.stat().st_size / 1e6:.1f} MB, names of {naming.name}, {len(tensors)} tensors)", *said]


def as_studied(model: Model) -> Preprocess:
    """How the study showed its images to the network."""
    wanted = model.backbone.preprocess
    shown = settings_of(model.config.data, wanted.resampling)
    return wanted._replace(image_size=shown.size, crop=shown.crop)
