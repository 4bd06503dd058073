"""What `make demo` runs: handwritten digits on EfficientNet-Lite0, six freeze depths, on a laptop without a GPU.

python -m fteng.main --config=configs/demo.py --workdir=runs/demo
"""

from fteng.config import Config


def get_config() -> Config:
    """Some 1,000 real scans of 8 x 8 pixels, upscaled to 48: probes at every tap, 6 depths x 2 rates x 2 seeds."""
    config = Config(experiment="Handwritten digits on EfficientNet-Lite0: does an ImageNet network know them, and how deep?")
    config.data.source = "digits"
    config.data.image_size = 48
    config.data.limit = 1000
    config.sweep.freeze_depths = ("0", "4", "8", "12", "16", "all")
    config.sweep.learning_rates = (1e-3, 3e-4)
    config.sweep.seeds = (0, 1)
    config.train.epochs = 5
    return config
