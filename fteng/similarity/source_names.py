"""What the classes are called that a source head tells apart."""

import importlib.util
from pathlib import Path

_IMAGENET = 1000


def source_names(count: int) -> tuple[tuple[str, ...], str]:
    """A name for each of `count` source classes, and where the names are from, for people.

    1,000 classes are taken for ImageNet's in the order of the challenge of 2012, which every publisher keeps; their names are read
    from tensorflow-datasets' file of them. Others are numbered.
    """
    package = importlib.util.find_spec("tensorflow_datasets")
    if count == _IMAGENET and package is not None and package.origin is not None:
        path = Path(package.origin).parent / "datasets" / "siscore" / "labels.py"
        spec = importlib.util.spec_from_file_location("fteng_imagenet_names", path) if path.is_file() else None
        if spec is not None and spec.loader is not None:
            # The one file: importing the package for it would take a second.
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            names = tuple(str(name).split(",")[0] for name in getattr(module, "IMAGENET_LABELS_LIST", ()))
            if len(names) == count:
                return names, "a head of 1,000 classes is taken for ImageNet-1k in its usual order"
    return tuple(f"source class {index}" for index in range(count)), "the weights do not name their classes; they are numbered"
