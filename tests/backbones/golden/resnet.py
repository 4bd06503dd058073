"""Writes resnet18.npz and resnet50.npz from torchvision, and checks that timm's network is the same one under the same names."""

import timm
import torch
import torchvision
from drawn import draw_all, image_batch
from torch_side import record

SIZE = 160
# One image of the large one: its many taps make a large file.
IMAGES = {"resnet18": 2, "resnet50": 1}


def main() -> None:
    """Both networks."""
    for name, counts in (("resnet18", (2, 2, 2, 2)), ("resnet50", (3, 4, 6, 3))):
        model = torchvision.models.get_model(name, weights=None)
        same_in_timm(model, timm.create_model(name))
        taps = {"stem": "maxpool"}
        for layer, count in enumerate(counts, 1):
            taps |= {f"layer{layer}_block{index + 1}": f"layer{layer}.{index}" for index in range(count)}
        versions = f"torchvision {torchvision.__version__}, equal in timm {timm.__version__}"
        record(name, model, taps, size=SIZE, versions=versions, images=IMAGES[name], train=True)


def same_in_timm(model: torch.nn.Module, other: torch.nn.Module) -> None:
    """Raises RuntimeError where timm's tensors or logits are others."""
    shapes = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    weights = {key: torch.from_numpy(tensor) for key, tensor in draw_all(shapes).items()}
    x = torch.from_numpy(image_batch(2, SIZE)).permute(0, 3, 1, 2).contiguous()
    logits = []
    for one in (model, other):
        one.load_state_dict(weights)
        with torch.no_grad():
            logits.append(one.eval()(x))
    if not torch.allclose(*logits, rtol=1e-5):
        raise RuntimeError("timm's network is another one")


if __name__ == "__main__":
    main()
