"""`python -m fteng.source --config=configs/X.py --out=FILE.npz`: what a set of images looks like inside a network, as a file."""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fteng import command_line, record
from fteng.config import Config
from fteng.errors import UserError, says_user_errors

_HELP = """\
Make a source profile: mean and variance of every stage's output over a set of images. A study then compares your data with it,
stage by stage. Give it images like those the network was pretrained on: best a sample of that very set.

You need one where the network has no batch norm (VGG16, All-CNN-C, ConvNeXt, ViT), whose checkpoint keeps no such numbers.
The file is bound to the network, its weights and their way of scaling images; a study refuses it under any other.

Network and images are those of a config, as in python -m fteng.main, whose --help lists every key. ALL images are taken,
whatever the split (at most N with --config.data.limit=N); the classes do not matter, but a folder must have two.
"""
_EXAMPLE = """\
example, for VGG16 with torchvision's weights and a sample of ImageNet:
  python -m fteng.source --config=configs/folder.py --config.data.path=imagenet_sample --config.data.image_size=224 \\
      --config.backbone.name=vgg16 --config.backbone.weights=vgg16.safetensors --out=vgg16-imagenet.npz
  python -m fteng.main --config=configs/folder.py --config.data.path=MY_IMAGES --config.data.image_size=224 \\
      --config.backbone.name=vgg16 --config.backbone.weights=vgg16.safetensors \\
      --config.backbone.source_profile=vgg16-imagenet.npz --workdir=runs/mine
"""


@says_user_errors
def main(argv: Sequence[str]) -> int:
    """Exit status: 0, or 2 when the user has something to mend."""
    parser = argparse.ArgumentParser(
        prog="python -m fteng.source",
        usage="python -m fteng.source --config=FILE --out=FILE.npz [--config.KEY=VALUE ...] [--about=TEXT]",
        description=_HELP,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="file with get_config(), for example configs/folder.py")
    parser.add_argument("--out", type=Path, metavar="FILE.npz", help="the file to write")
    parser.add_argument("--about", default="", metavar="TEXT", help="a word on the images, kept in the file and shown in reports")
    given, keys = parser.parse_known_args(argv[1:])
    command = shlex.join(["python", "-m", "fteng.source", *argv[1:]])
    try:
        for argument in keys:
            if not argument.startswith("--config."):
                raise UserError(f"unexpected argument {argument!r}; allowed: --config, --config.KEY=VALUE, --out, --about")
        if given.out is None:
            raise UserError("--out is missing; give the file to write, for example --out=source.npz")
        file = [] if given.config is None else [f"--config={given.config}"]
        config = command_line.parse([argv[0], *file, *keys])
        print(make(config, given.out, given.about, command))
    except KeyboardInterrupt:
        print("fteng: stopped; no file was written", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


def make(config: Config, out: Path, about: str, command: str) -> str:
    """Profile all images of the config under its network and write the file; returns what there is to say. Raises UserError."""
    if out.suffix != ".npz":
        raise UserError(f"--out: got {str(out)!r}, allowed: a name that ends in .npz")
    # Before the pass and not after it.
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise UserError(f"--out: {str(out.parent)!r} is no folder that can be written to; make it, or name another")
    from fteng.backbones.catalogue import check_size, load
    from fteng.data.prepare import prepare
    from fteng.feed import make_feed
    from fteng.probe.features import observe
    from fteng.probe.source_profile import preprocess_digest, write_profile
    from fteng.progress import make_reporter

    backbone, weights = load(config.backbone)
    check_size(backbone, weights, config.data.image_size)
    reporter = make_reporter()
    for note in weights.notes:
        reporter.say(f"{config.backbone.weights}: {note}")
    try:
        reporter.phase("images", 1)
        dataset = prepare(config.data, backbone.preprocess.resampling, lambda _done, _total: None)
        count = len(dataset.labels)
        reporter.phase("profile", count)
        rows = np.arange(count)
        moments = observe(backbone, weights, rows, make_feed(dataset.images), config.train.batch_size, reporter.advance)
    except BaseException:
        reporter.stop()
        raise
    reporter.close()
    header = {
        "backbone": backbone.name,
        "weights": weights.digest,
        "preprocess": preprocess_digest(backbone.preprocess),
        "image_size": config.data.image_size,
        "resize": config.data.resize,
        "images": count,
        "name": dataset.name,
        "about": about,
        "command": command,
        "versions": record.versions(),
    }
    try:
        write_profile(out, header, dict(zip(backbone.stages, moments.outputs, strict=True)))
    except OSError as error:
        raise UserError(f"--out: cannot write {out} ({error.strerror}); name another place") from None
    left_out = dataset.report["left_out"]
    lost = f" ({len(left_out)} left out, the first: {left_out[0]['id']}, {left_out[0]['reason']})" if left_out else ""
    return (
        f"{out}: {count:,} images of {dataset.name}{lost} in {len(backbone.stages)} stages of {backbone.name}; "
        f"give it to a study as --config.backbone.source_profile={out}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv))
