"""scikit-learn's handwritten digits: 1,797 real scans of 8 x 8 pixels, from the UCI repository (Alpaydin and Kaynak 1998)."""

import numpy as np

from fteng.config import DataConfig
from fteng.data.records import Record, RecordSet


def read_digits(config: DataConfig) -> RecordSet:
    """Every digit as (8, 8) uint8. Who wrote which is not in the data, so a writer may stand on both sides of a split."""
    # scikit-learn takes a second to import, and most studies have other images.
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    records = [
        Record(f"digit-{index:04d}", str(label), f"digit-{index:04d}", image)
        for index, (image, label) in enumerate(zip(pixels, labels, strict=True))
    ]
    return RecordSet(config.name or "digits", tuple(records))
