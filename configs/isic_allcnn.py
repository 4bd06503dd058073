"""Skin images of the ISIC archive, benign against malignant, on All-CNN-C pretrained on CIFAR-10: a small network at 32 px.

    python -m fteng.main --config=configs/isic_allcnn.py --config.data.path=data/isic --workdir=runs/isic_allcnn \\
        --config.backbone.weights=all_cnn_c.safetensors

configs/cifar10_allcnn.py makes the weights, configs/isic.py tells how to get the images and is the same question on VGG16. Every
stage is a freeze depth. Not yet run by us on real ISIC images: no number of ours stands here.
"""

from configs import isic
from fteng.config import Config


def get_config() -> Config:
    """The study of configs/isic.py at 32 px, with a depth a stage."""
    config = isic.get_config("all_cnn_c")
    config.experiment = "ISIC archive, benign against malignant: how deep to tune a small CIFAR-10 network?"
    config.backbone.weights = "all_cnn_c.safetensors"
    config.data.image_size = 32
    config.sweep.freeze_depths = ("0", "1", "2", "3", "4", "5", "6", "7", "all")
    config.train.batch_size = 128
    return config
