"""Writes the EfficientNets' golden files, from torchvision and timm."""

import timm
import torchvision
from torch_side import record

SHORT, LONG = (1, 2, 2, 3, 3, 4, 1), (1, 3, 3, 4, 4, 5, 1)
# Our name -> timm's, the blocks of each row, and pixels: few, but halved five times they are even and odd in turn as the network's
# own size (224, 240, 260) is, which SAME padding tells apart.
TIMM = {
    "efficientnet_lite0": ("tf_efficientnet_lite0", SHORT, 96),
    "efficientnet_lite1": ("tf_efficientnet_lite1", LONG, 80),
    "efficientnet_lite2": ("tf_efficientnet_lite2", LONG, 68),
    "efficientnet_b0": ("efficientnet_b0", SHORT, 96),
    "tf_efficientnet_b0": ("tf_efficientnet_b0", SHORT, 96),
}


def main() -> None:
    """All of them in timm's names, and B0 in torchvision's."""
    for ours, (theirs, counts, size) in TIMM.items():
        taps = {"stem": "bn1"} | block_taps(counts, "blocks.{row}.{position}") | {"conv_head": "bn2"}
        model = timm.create_model(theirs)
        record(f"{ours}_timm", model, taps, size=size, versions=f"timm {timm.__version__}", train=True)
    taps = {"stem": "features.0"} | block_taps(SHORT, "features.{group}.{position}") | {"conv_head": "features.8"}
    model = torchvision.models.efficientnet_b0(weights=None, stochastic_depth_prob=0.0)
    versions = f"torchvision {torchvision.__version__}"
    record("efficientnet_b0_torchvision", model, taps, size=96, versions=versions, train=True)


def block_taps(counts: tuple[int, ...], module: str) -> dict[str, str]:
    """Our block -> their module."""
    places = [(row, position) for row, count in enumerate(counts) for position in range(count)]
    return {
        f"block{number}": module.format(row=row, group=row + 1, position=position)
        for number, (row, position) in enumerate(places, 1)
    }


if __name__ == "__main__":
    main()
