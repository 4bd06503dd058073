"""Handwritten digits on EfficientNet-Lite0: all 1,797 real scans of 8 x 8 pixels, upscaled to 64.

    python -m fteng.main --config=configs/digits.py --workdir=runs/digits

The larger twin of demo.py.
"""

from fteng.config import Config


def get_config() -> Config:
    """Probes at every tap, 6 depths x 2 rates x 2 seeds."""
    config = Config(experiment="Handwritten digits on EfficientNet-Lite0")
    config.data.source = "digits"
    config.data.image_size = 64
    config.sweep.freeze_depths = ("0", "4", "8", "12", "16", "all")
    config.sweep.learning_rates = (1e-3, 3e-4)
    config.sweep.seeds = (0, 1)
    return config
