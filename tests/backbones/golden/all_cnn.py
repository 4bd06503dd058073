"""Writes all_cnn_c.npz from a plain torch.nn.Sequential, whose names and layouts are those of fteng's files."""

from collections import OrderedDict

import torch
from torch_side import record

# Outputs, size, stride and padding of each convolution; Springenberg et al. 2014, table 1.
LAYERS = (
    (96, 3, 1, 1),
    (96, 3, 1, 1),
    (96, 3, 2, 1),
    (192, 3, 1, 1),
    (192, 3, 1, 1),
    (192, 3, 2, 1),
    (192, 3, 1, 0),
    (192, 1, 1, 0),
)


def main() -> None:
    """Checks the order of head and pooling, and writes the file."""
    parts: OrderedDict[str, torch.nn.Module] = OrderedDict()
    inputs = 3
    for number, (outputs, size, stride, padding) in enumerate(LAYERS, 1):
        parts[f"conv{number}"] = torch.nn.Conv2d(inputs, outputs, size, stride, padding)
        parts[f"relu{number}"] = torch.nn.ReLU()
        inputs = outputs
    parts |= {"pool": torch.nn.AdaptiveAvgPool2d(1), "flatten": torch.nn.Flatten(), "head": torch.nn.Linear(192, 10)}
    model = torch.nn.Sequential(parts)
    taps = {f"conv{number}": f"relu{number}" for number in range(1, len(LAYERS) + 1)}
    record("all_cnn_c", model, taps, size=32, versions="no other package")
    pool_last(model)


def pool_last(model: torch.nn.Sequential) -> None:
    """Raises AssertionError unless the paper's order, 1x1 convolution and then average over 6 x 6 places, gives the same logits."""
    classes = torch.nn.Conv2d(192, 10, 1)
    classes.weight.data = model.head.weight.data[:, :, None, None]
    classes.bias.data = model.head.bias.data
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = classes(model[:-3](x))
        assert y.shape == (2, 10, 6, 6)
        torch.testing.assert_close(y.mean((2, 3)), model(x), rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    main()
