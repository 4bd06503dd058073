"""Fashion-MNIST: real grey photographs of clothes, 28 x 28, upscaled to 64; ten classes, split given by the source.

    sudo apt-get install dataset-fashion-mnist
    python -m fteng.main --config=configs/fashion_mnist.py --workdir=runs/fashion

6,000 of the 70,000 images by default; --config.data.limit=0 takes all. Elsewhere than on Debian, point --config.data.path at a
folder with the four .gz files.
"""

from fteng.config import Config


def get_config() -> Config:
    """EfficientNet-Lite0, six depths, two rates, two seeds."""
    config = Config(experiment="Fashion-MNIST on EfficientNet-Lite0")
    config.data.source = "idx"
    config.data.path = "/usr/share/datasets/fashion-mnist"
    config.data.name = "fashion_mnist"
    config.data.image_size = 64
    config.data.limit = 6000
    config.data.val_fraction = 0.1
    config.sweep.freeze_depths = ("0", "4", "8", "12", "16", "all")
    config.sweep.learning_rates = (1e-3, 3e-4)
    config.sweep.seeds = (0, 1)
    config.train.epochs = 4
    config.train.augment = ("flip",)
    return config
