"""One image file, or array, as the square RGB the network sees."""

import io
import math
import threading
from pathlib import Path

import numpy as np
import simplejpeg
from cykooz_resizer import CropBox, FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer
from PIL import Image, ImageOps, UnidentifiedImageError

from fteng.data.records import Packed

# Catmull-Rom is what Pillow calls bicubic (a = -0.5). Both shrink with a wider filter, so nothing aliases.
_FILTERS = {"bicubic": FilterType.catmull_rom, "bilinear": FilterType.bilinear}
# Letterbox bars: the middle of the range, which no normalisation takes far from zero.
_BAR = 127
_ORIENTATION = 0x0112


class _Own(threading.local):
    """One resizer a thread, which keeps its buffers from image to image."""

    def __init__(self) -> None:
        self.resizer = Resizer()


_OWN = _Own()


def decode(source: Path | Packed | np.ndarray, size: int, resize: str, interpolation: str, crop: float = 1.0) -> np.ndarray:
    """(size, size, 3) uint8 RGB. resize: squash, crop (centre), letterbox, or weights: of the centre crop the share `crop`, as the
    weights' own evaluation looks at.

    Decoded pixels are those of Pillow, bit for bit. Resized ones are the same on every processor (integer arithmetic), and within
    4 of 255 of Pillow's, 0.2 on average, which rounds differently between its two passes. A file that is no whole image raises
    what Pillow raises, which may be any Exception.
    """
    if isinstance(source, np.ndarray):
        pixels = _to_rgb(Image.fromarray(source))
        return _to_square(pixels, pixels.shape[1], pixels.shape[0], size, resize, interpolation, crop)
    content = source.read() if isinstance(source, Packed) else _read(source)
    with Image.open(io.BytesIO(content)) as opened:
        drafted, full = None, opened.size
        upright = opened.getexif().get(_ORIENTATION, 1) == 1
        if upright:
            # A JPEG decodes to 1/2, 1/4 or 1/8 for less, never below the target. Other formats ignore it.
            drafted = opened.draft(None, (math.ceil(size / crop), math.ceil(size / crop)))
        pixels = _jpeg(content, opened, shrunk=opened.size != full) if upright else None
        if pixels is None:
            opened.load()
            pixels = _to_rgb(opened if upright else ImageOps.exif_transpose(opened))
    # 450 rows at 1/4 are 112.5: the last one is half outside, and taking it for whole would stretch the image.
    width, height = drafted[1][2:] if drafted else (pixels.shape[1], pixels.shape[0])
    return _to_square(pixels, width, height, size, resize, interpolation, crop)


def why_unreadable(error: Exception) -> str:
    """Why an image cannot be read, in one line that holds for the file wherever it lies."""
    if isinstance(error, UnidentifiedImageError):
        return "no image that Pillow knows"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(f"{type(error).__name__}: {error}".split())


def _read(path: Path) -> bytes:
    # A pipe would be waited for, and a device read, for ever; a folder says so itself.
    if not path.is_file() and path.exists() and not path.is_dir():
        raise ValueError("neither a file nor a link to one")
    return path.read_bytes()


def _jpeg(content: bytes, opened: Image.Image, *, shrunk: bool) -> np.ndarray | None:
    """The pixels that `opened`, `shrunk` by a draft, would load, a fifth sooner; None for what only Pillow reads, or judges."""
    if opened.format != "JPEG" or opened.mode not in ("RGB", "L"):
        return None
    width, height = opened.size if shrunk else (0, 0)
    try:
        pixels = simplejpeg.decode_jpeg(content, min_width=width, min_height=height)
    except ValueError:
        return None
    return pixels if pixels.shape[:2] == opened.size[::-1] else None


def _to_rgb(image: Image.Image) -> np.ndarray:
    """(h, w, 3) uint8. Transparency lies on white; 16-bit grey keeps its range instead of being clipped."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64)
        if values.max(initial=0) > 65535 or values.min(initial=0) < 0:
            raise ValueError("integer values beyond 16 bit")
        image = Image.fromarray(np.round(values / 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba)
    return np.asarray(image.convert("RGB"))


def _to_square(
    pixels: np.ndarray, width: float, height: float, size: int, resize: str, interpolation: str, crop: float
) -> np.ndarray:
    """(size, size, 3) uint8 of pixels (h, w, 3), of which the upper left `width` x `height` is the picture."""
    if resize == "letterbox":
        scale = size / max(width, height)
        inner = (max(1, round(width * scale)), max(1, round(height * scale)))
        left, top = (size - inner[0]) // 2, (size - inner[1]) // 2
        square = np.full((size, size, 3), _BAR, np.uint8)
        square[top : top + inner[1], left : left + inner[0]] = _resized(pixels, (0, 0, width, height), inner, interpolation)
        return square
    shorter = crop * min(width, height)
    side = (width, height) if resize == "squash" else (shorter, shorter)
    box = ((width - side[0]) / 2, (height - side[1]) / 2, *side)
    return _resized(pixels, box, (size, size), interpolation)


def _resized(pixels: np.ndarray, box: tuple[float, float, float, float], size: tuple[int, int], interpolation: str) -> np.ndarray:
    """`box` (left, top, width, height) of pixels (h, w, 3) as (size[1], size[0], 3) uint8."""
    if box == (0, 0, *size) == (0, 0, pixels.shape[1], pixels.shape[0]):
        return pixels
    options = ResizeOptions(ResizeAlg.convolution(_FILTERS[interpolation]), crop_box=CropBox(*box), use_alpha=False)
    source = ImageData(pixels.shape[1], pixels.shape[0], PixelType.U8x3, pixels.tobytes())
    square = ImageData(*size, PixelType.U8x3)
    _OWN.resizer.resize(source, square, options)
    return np.frombuffer(square.get_buffer(), np.uint8).reshape(size[1], size[0], 3)
