"""What a user takes home of a study: its network as a weights file, or as a folder that runs without fteng."""

import argparse
from pathlib import Path

from fteng.errors import UserError, says_user_errors
from fteng.named import TRIAL

_HELP = """\
Write the network that a study recommends, or one of its other trials or probes.

--out=FILE.safetensors: the weights alone, in the tensor names and layouts they came in, so that the library they came from can load
them. The new classifier stands where the old one stood. Give the file to another study
as --config.backbone.weights=FILE, or to torch:

  model = timm.create_model("resnet50", num_classes=2)
  model.load_state_dict(safetensors.torch.load_file("tuned.safetensors"))

--out=FOLDER (a name without ending): the same file, and all it takes to use it:
  README.md                              the model card: data, scores with intervals, limits
  preprocessing.json, labels.json, calibration.json
  program.stablehlo                      from pixels to calibrated probabilities, for jax.export, on CPU, GPU and TPU
  run.py                                 runs the program on image files; needs jax, flatbuffers, numpy and pillow, not fteng
Program and weights are read back and asked about the study's test images; the folder appears only if both answer as the study's
model does, to 1e-5.
"""
_EXAMPLE = """\
example:
  python -m fteng.main --config=configs/digits.py --workdir=runs/digits
  python -m fteng.export runs/digits --out=tuned.safetensors
  python -m fteng.export runs/digits --trial=depth12-rate0.001-seed0- --out=digits-model
"""
# Endings of weights files that people ask for and get from elsewhere: none of them is meant as a folder.
_FOREIGN = frozenset({".pth", ".pt", ".bin", ".h5", ".keras", ".npz", ".onnx", ".ckpt", ".msgpack", ".pb"})


@says_user_errors
def main(arguments: list[str]) -> int:
    """Exit status: 0, or 2 when the user has something to mend."""
    parser = argparse.ArgumentParser(
        prog="python -m fteng.export", description=_HELP, epilog=_EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdir", type=Path, metavar="WORKDIR", help="the --workdir that the study was run with")
    parser.add_argument("--out", type=Path, required=True, metavar="PLACE", help="the .safetensors file, or the folder, to write")
    parser.add_argument("--trial", default="", metavar="ID", help=TRIAL)
    parser.add_argument("--naming", default="", metavar="NAME", help="whose tensor names (default: those the weights came in)")
    parser.add_argument("--onnx", action="store_true", help="a model.onnx in the folder too (pip install 'fteng[onnx-out]')")
    given = parser.parse_args(arguments)
    for line in export(given.workdir, given.out, given.trial, given.naming, onnx=given.onnx):
        print(line)
    return 0


def export(workdir: Path, out: Path, trial: str = "", naming: str = "", *, onnx: bool = False) -> list[str]:
    """Write the file or the folder; returns what there is to say, a line each. Raises UserError."""
    # Takes a second, which a mistyped flag should not cost.
    from fteng.export.folder import write_folder
    from fteng.export.weights import write_weights
    from fteng.model import read_model

    single = out.suffix == ".safetensors"
    if not single and out.suffix in _FOREIGN:
        raise UserError(f"--out: got {out}, allowed: a name that ends in .safetensors, or a folder (a name without ending)")
    if onnx and single:
        raise UserError("--onnx: allowed with --out=FOLDER alone; leave one of them out")
    model = read_model(workdir, trial)
    return write_weights(model, out, naming) if single else write_folder(workdir, model, out, naming, onnx=onnx)
