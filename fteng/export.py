"""`python -m fteng.export WORKDIR --out=FILE.safetensors`: a tuned network in the names of torchvision, timm or Keras."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fteng.errors import UserError

_HELP = """\
Write the network that a study recommends as one safetensors file, in the tensor names and layouts its weights came in, so that
the library they came from can load it. The new classifier stands where the old one stood.

What the file says of itself: backbone, stages, classes in order, how images are scaled, and the trial it is.
Give it to another study as --config.backbone.weights=FILE.safetensors, or load it in torch:

  model = timm.create_model("resnet50", num_classes=2)
  model.load_state_dict(safetensors.torch.load_file("tuned.safetensors"))
"""
_EXAMPLE = """\
example:
  python -m fteng.main --config=configs/digits.py --workdir=runs/digits
  python -m fteng.export runs/digits --out=tuned.safetensors
  python -m fteng.export runs/digits --trial=depth12-rate0.001-seed0 --out=tuned.safetensors
"""


def main(arguments: list[str]) -> int:
    """Exit status: 0, or 2 when the user has something to mend."""
    parser = argparse.ArgumentParser(
        prog="python -m fteng.export", description=_HELP, epilog=_EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdir", type=Path, metavar="WORKDIR", help="the --workdir that the study was run with")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .safetensors file to write")
    parser.add_argument("--trial", default="", metavar="ID", help="a trial, or probe:STAGE (default: what the report recommends)")
    parser.add_argument("--naming", default="", metavar="NAME", help="whose tensor names (default: those the weights came in)")
    given = parser.parse_args(arguments)
    try:
        for line in export(given.workdir, given.out, given.trial, given.naming):
            print(line)
    except UserError as error:
        print(f"fteng: {error}", file=sys.stderr)
        return 2
    return 0


def export(workdir: Path, out: Path, trial: str = "", naming_name: str = "") -> list[str]:
    """Write the file; returns what there is to say, a line each. Raises UserError."""
    from fteng.backbones.catalogue import find
    from fteng.backbones.files.write import write_safetensors
    from fteng.backbones.network import truncate
    from fteng.backbones.weights import named
    from fteng.model import read_model

    if out.suffix != ".safetensors":
        raise UserError(f"--out: got {out}, allowed: a name that ends in .safetensors")
    model = read_model(workdir, trial)
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
    data = model.config.data
    crop = model.backbone.preprocess.crop if data.resize == "weights" else 1.0
    preprocess = model.backbone.preprocess._replace(image_size=data.image_size, crop=crop)
    write_safetensors(
        out,
        tensors,
        {
            "backbone": network.backbone.name,
            "naming": naming.name,
            "last_stage": model.plan.tap,
            "classes": json.dumps(model.classes),
            "preprocess": json.dumps(preprocess._asdict()),
            "resize": data.resize,
            "trial": model.name,
            "source": model.source.digest,
        },
    )
    return [f"{model.name} as {out} ({out.stat().st_size / 1e6:.1f} MB, names of {naming.name}, {len(tensors)} tensors)", *said]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
