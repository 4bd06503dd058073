"""Golden files of the vision transformers. Run by a Python that has torch, timm and torchvision."""

import math
import types

import numpy as np
import timm
import torch
import torchvision
from timm.layers import resample_abs_pos_embed
from torch.nn.functional import interpolate
from torch_side import HERE, record

TIMM_TAPS = {"embed": "norm_pre", **{f"block{index + 1}": f"blocks.{index}" for index in range(12)}, "norm": "norm"}
TORCHVISION_TAPS = {
    "embed": "encoder.dropout",
    **{f"block{index + 1}": f"encoder.layers.encoder_layer_{index}" for index in range(12)},
    "norm": "encoder.ln",
}
TIMM = f"timm {timm.__version__}"


def class_and_mean(y: torch.Tensor) -> torch.Tensor:
    """(n, 1 + patches, c) -> (n, 2c)."""
    return torch.cat([y[:, 0], y[:, 1:].mean(1)], 1)


def offset_bicubic(position: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """(1, grid, grid, c) -> (1, rows, columns, c), as the code that the authors of DINOv2 published: bicubic by a scale factor to
    which 0.1 was added."""
    grid = position.shape[1]
    factors = (float(rows + 0.1) / grid, float(columns + 0.1) / grid)
    resized = interpolate(position.permute(0, 3, 1, 2), scale_factor=factors, mode="bicubic").permute(0, 2, 3, 1)
    assert resized.shape[1:3] == (rows, columns)
    return resized


def authors_positions(model: torch.nn.Module, patches: torch.Tensor) -> torch.Tensor:
    """Replaces timm's: (n, rows, columns, c) -> tokens (n, 1 + rows * columns, c)."""
    n, rows, columns, channels = patches.shape
    grid = math.isqrt(model.pos_embed.shape[1] - 1)
    resized = offset_bicubic(model.pos_embed[:, 1:].reshape(1, grid, grid, channels), rows, columns)
    position = torch.cat([model.pos_embed[:, :1], resized.reshape(1, -1, channels)], 1)
    tokens = torch.cat([model.cls_token.expand(n, -1, -1), patches.reshape(n, -1, channels)], 1)
    return tokens + position


def write_positions() -> None:
    """resize.npz: a 14 x 14 grid of 3 channels, and KIND_ROWS_COLUMNS, the same resized."""
    grid = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 14, 14, 3)).astype(np.float32))
    kept = {"grid": grid[0].numpy()}
    for rows, columns in ((7, 7), (10, 13), (14, 15), (18, 5), (37, 1), (33, 24)):
        antialiased = resample_abs_pos_embed(grid.reshape(1, -1, 3), [rows, columns], [14, 14], num_prefix_tokens=0)
        kept[f"antialiased_{rows}_{columns}"] = antialiased.reshape(rows, columns, 3).numpy()
        kept[f"offset_{rows}_{columns}"] = offset_bicubic(grid, rows, columns)[0].numpy()
    np.savez_compressed(HERE / "resize.npz", **kept)


def write() -> None:
    write_positions()
    for name, size, images in (("vit_small_patch16_timm", 224, 2), ("vit_small_patch16_timm_160", 160, 1)):
        model = timm.create_model("vit_small_patch16_224", dynamic_img_size=True)
        record(name, model, TIMM_TAPS, size=size, images=images, pool=class_and_mean, versions=TIMM)
    model = timm.create_model("vit_base_patch16_224")
    record("vit_base_patch16_timm", model, TIMM_TAPS, size=224, images=1, pool=class_and_mean, versions=TIMM)
    model = torchvision.models.vit_b_16()
    versions = f"torchvision {torchvision.__version__}"
    record("vit_base_patch16_torchvision", model, TORCHVISION_TAPS, size=224, images=1, pool=class_and_mean, versions=versions)
    model = timm.create_model("vit_small_patch14_dinov2")
    record("vit_small_patch14_dinov2_timm", model, TIMM_TAPS, size=518, images=1, pool=class_and_mean, versions=TIMM)
    # The authors' own file has a mask token more, and their network resizes positions in its own way.
    model = timm.create_model("vit_small_patch14_dinov2", dynamic_img_size=True)
    model.register_parameter("mask_token", torch.nn.Parameter(torch.zeros(1, 384)))
    model._pos_embed = types.MethodType(authors_positions, model)
    record("vit_small_patch14_dinov2_authors", model, TIMM_TAPS, size=98, images=2, pool=class_and_mean, versions=TIMM)


if __name__ == "__main__":
    write()
