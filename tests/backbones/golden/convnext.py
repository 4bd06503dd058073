"""Golden files of ConvNeXt-Tiny under timm's and torchvision's names. Run by a Python that has torch, timm and torchvision."""

import timm
import torchvision
from torch_side import record

BLOCKS = [(group, index) for group, count in enumerate((3, 3, 9, 3)) for index in range(count)]


def write() -> None:
    timm_taps = {f"stage{group + 1}_block{index + 1}": f"stages.{group}.blocks.{index}" for group, index in BLOCKS}
    record(
        "convnext_tiny_timm",
        timm.create_model("convnext_tiny"),
        {"stem": "stem", **timm_taps, "norm": "head.norm"},
        size=64,
        versions=f"timm {timm.__version__}",
    )
    torchvision_taps = {f"stage{group + 1}_block{index + 1}": f"features.{2 * group + 1}.{index}" for group, index in BLOCKS}
    # A side that no stride divides: torch cuts off what is left over.
    record(
        "convnext_tiny_torchvision",
        torchvision.models.convnext_tiny(),
        {"stem": "features.0", **torchvision_taps, "norm": "classifier.0"},
        size=78,
        versions=f"torchvision {torchvision.__version__}",
    )


if __name__ == "__main__":
    write()
