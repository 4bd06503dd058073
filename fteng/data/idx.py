"""The four gzipped files of MNIST and of what took its shape, as Fashion-MNIST (Debian's package `dataset-fashion-mnist`).

The format is LeCun's: two zero bytes, the type (8: uint8), the number of dimensions, each as big-endian int32, the data.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np

from fteng.config import DataConfig
from fteng.data.folder import root_folder
from fteng.data.records import Record, RecordSet
from fteng.errors import UserError

# Xiao, Rasul and Vollgraf 2017 (arXiv 1708.07747), table 2. Other data sets keep their numbers.
_FASHION = ("t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_UINT8 = 8


def read_idx(config: DataConfig) -> RecordSet:
    """70,000 images (28, 28) uint8 with the official test set; val comes from the official training set.

    Raises UserError if a file is missing or broken, or its labels are not those of Fashion-MNIST in a folder that is called so,
    where classes have names in place of numbers.
    """
    root = root_folder(config, "the folder of train-images-idx3-ubyte.gz and the other three files")
    fashion = "fashion" in root.resolve().name.lower()
    records = []
    for part, prefix in (("train", "train"), ("test", "t10k")):
        images = _read(root / f"{prefix}-images-idx3-ubyte.gz", 3)
        labels = _read(root / f"{prefix}-labels-idx1-ubyte.gz", 1)
        if fashion and labels.max(initial=0) >= len(_FASHION):
            raise UserError(
                f"{root}: a label is {labels.max()}, Fashion-MNIST has 0 to 9; get the files anew, or rename the folder if they are"
                " of another data set"
            )
        if len(images) != len(labels):
            raise UserError(f"{root}: {len(images)} images but {len(labels)} labels in {prefix}-*; get the files anew")
        names = [f"{prefix}-{index:05d}" for index in range(len(images))]
        classes = [_FASHION[label] if fashion else str(label) for label in labels]
        given = part if config.split_column else ""
        records += [Record(id_, label, id_, image, split=given) for id_, label, image in zip(names, classes, images, strict=True)]
    return RecordSet(config.name or root.resolve().name, tuple(records))


def _read(path: Path, dimensions: int) -> np.ndarray:
    """uint8 array of so many dimensions."""
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"no file {path}; get it, for Fashion-MNIST: apt install dataset-fashion-mnist") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is no whole gzip file ({error}); get it anew") from None
    head = 4 + 4 * dimensions
    right = content[:4] == bytes([0, 0, _UINT8, dimensions]) and len(content) >= head
    shape = tuple(np.frombuffer(content[4:head], ">i4").tolist()) if right else ()
    if not right or len(content) - head != int(np.prod(shape)):
        raise UserError(f"{path} is no idx file of {dimensions} dimension(s) of uint8; get it anew")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)
