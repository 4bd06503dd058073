"""Your own images: a folder with one sub-folder a class.

    python -m fteng.main --config=configs/folder.py --config.data.path=MY_IMAGES --workdir=runs/mine

Without a GPU start with `--config.data.limit=600 --config.data.image_size=160` to see the shape of the curve in minutes, then
let the whole run overnight. Every image is a group of its own here: if several show one patient or object, they may stand on both
sides of the split, and the scores are then too good.
"""

from fteng.config import Config


def get_config() -> Config:
    """EfficientNet-Lite0 at 224 px, seven depths, two rates, two seeds."""
    config = Config()
    config.data.source = "folder"
    config.data.image_size = 224
    config.sweep.freeze_depths = ("0", "4", "8", "12", "14", "16", "all")
    config.sweep.learning_rates = (1e-3, 3e-4)
    config.sweep.seeds = (0, 1)
    config.train.augment = ("flip",)
    return config
