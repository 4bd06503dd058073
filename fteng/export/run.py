"""Classify images: python run.py IMAGE ...; needs jax, flatbuffers, numpy and pillow, and the files beside this one."""

import json
import math
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jax import export
from PIL import Image, ImageOps

HERE = Path(__file__).parent
HOW, LABELS = (json.loads((HERE / f"{name}.json").read_text(encoding="utf-8")) for name in ("preprocessing", "labels"))


def resized(image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]) -> Image.Image:
    """Height first, then width: the order in which the model's training images were resized; Pillow alone does the reverse."""
    filter_, (left, top, right, bottom) = Image.Resampling[HOW["interpolation"].upper()], box
    high = image.resize((image.width, size[1]), filter_, (0, top, image.width, bottom))
    return high.resize(size, filter_, (left, 0, right, size[1]))


def square(source: Path | BinaryIO) -> np.ndarray:
    """The image file as (size, size, 3) uint8 RGB, as the model was trained to see it."""
    size, how, image = HOW["image_size"], HOW["resize"], Image.open(source)
    upright = image.getexif().get(0x0112, 1) == 1
    drafted = image.draft(None, (math.ceil(size / HOW["crop"]),) * 2) if upright else None
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"{source}: {image.mode} pixels; save the image with 8 bits a channel")
    image = image if upright else ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image, (width, height) = image.convert("RGB"), drafted[1][2:] if drafted else image.size
    if how == "letterbox":
        scale, whole = size / max(width, height), Image.new("RGB", (size, size), (127, 127, 127))
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        whole.paste(resized(image, inner, (0, 0, width, height)), ((size - inner[0]) // 2, (size - inner[1]) // 2))
        return np.asarray(whole)
    wide, high = (width, height) if how == "squash" else (HOW["crop"] * min(width, height),) * 2
    return np.asarray(
        resized(image, (size, size), ((width - wide) / 2, (height - high) / 2, (width + wide) / 2, (height + high) / 2))
    )


if __name__ == "__main__":
    program = export.deserialize(bytearray((HERE / "program.stablehlo").read_bytes()))
    for path in sys.argv[1:]:
        shares = np.asarray(program.call(square(Path(path))[None]))[0]
        print(path, *(f"{name}={share:.4f}" for name, share in zip(LABELS["classes"], shares, strict=True)))
