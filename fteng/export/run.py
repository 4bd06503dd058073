"""Classify images: python run.py IMAGE ...; needs jax, flatbuffers, numpy and pillow, and the files beside this one.

A file that cannot be read is a line on stderr; the others are answered, and the exit status is 1.
"""

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
    image = image if upright else ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        # 16-bit grey keeps its range, as it did in training.
        values = np.asarray(image).astype(np.float64)
        if values.max(initial=0) > 65535 or values.min(initial=0) < 0:
            raise ValueError("integer values beyond 16 bit")
        image = Image.fromarray(np.round(values / 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
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
    unread = 0
    for path in sys.argv[1:]:
        try:
            pixels = square(Path(path))
        # Pillow raises what it likes on a file that is no whole image.
        except Exception as error:
            unread += 1
            print(f"{path}: cannot be read ({' '.join(str(error).split())})", file=sys.stderr)
            continue
        shares = np.asarray(program.call(pixels[None]))[0]
        print(path, *(f"{name}={share:.4f}" for name, share in zip(LABELS["classes"], shares, strict=True)))
    sys.exit(1 if unread else 0)
