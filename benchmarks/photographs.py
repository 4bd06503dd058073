"""Images to decode: parts of scikit-learn's photographs, each its own, the same in every run."""

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images


def load_photographs() -> list[Image.Image]:
    return [Image.fromarray(image) for image in load_sample_images().images]


def part(photographs: list[Image.Image], index: int, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """Nineteen twentieths of one of them, of `size` (width, height)."""
    photograph = photographs[index % len(photographs)]
    width, height = photograph.size
    left, top = rng.uniform(0, width / 20), rng.uniform(0, height / 20)
    return photograph.resize(size, Image.Resampling.BICUBIC, (left, top, left + width * 0.95, top + height * 0.95))
