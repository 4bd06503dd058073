"""Simulated woven textile: nominal, local and global defects; far from ImageNet, and a defect is a few pixels wide.

    python -m fteng.main --config=configs/textile.py --workdir=runs/textile                  # which defect
    python -m fteng.main --config=configs/textile.py:defect --workdir=runs/textile-defect    # nominal against defect

The 2,000 JPEGs come with the package conformal-clip-data (arXiv 2501.12596), which set-up installs. It needs resolution: local
defects vanish below about 200 px, so this is a study for an evening on a CPU, or for minutes on a GPU.
"""

import importlib.util
from pathlib import Path

from fteng.config import Config
from fteng.errors import UserError


def get_config(classes: str = "three") -> Config:
    """classes: `three`, or `defect` to merge both defects into one."""
    package = importlib.util.find_spec("conformal_clip_data")
    if package is None or package.origin is None:
        raise UserError("configs/textile.py needs the images of conformal-clip-data==0.1.4; make setup installs them")
    config = Config(experiment="Woven textile: are defects seen by early or by late stages of an ImageNet network?")
    config.data.source = "folder"
    config.data.path = str(Path(package.origin).parent / "data" / "textile_images" / "simulated")
    config.data.name = "textile"
    config.data.image_size = 240
    if classes == "defect":
        config.data.merge = ("defect=local+global",)
    config.sweep.freeze_depths = ("4", "8", "12", "14", "16", "all")
    config.sweep.learning_rates = (1e-3,)
    config.sweep.seeds = (0, 1)
    config.train.epochs = 5
    config.train.augment = ("flip",)
    return config
