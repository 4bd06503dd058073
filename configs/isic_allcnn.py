"""Skin images of the ISIC archive, benign against malignant, on All-CNN-C pretrained on CIFAR-10: a small network at 32 px.

    python -m fteng.main --config=configs/isic_allcnn.py --config.data.path=data/isic --workdir=runs/isic_allcnn \\
        --config.backbone.weights=all_cnn_c.safetensors

configs/cifar10_allcnn.py makes the weights, configs/isic.py tells how to get the images and is the same question on VGG16. Every
stage is a freeze depth. Not yet run by us on real ISIC images: no number of ours stands here.
"""

from fteng.config import Config


def get_config() -> Config:
    """Images, split and judging as in configs/isic.py; 32 px, and a depth a stage."""
    config = Config(experiment="ISIC archive, benign against malignant: how deep to tune a small CIFAR-10 network?")
    config.backbone.name = "all_cnn_c"
    config.backbone.weights = "all_cnn_c.safetensors"
    config.data.source = "isic"
    config.data.path = "data/isic"
    config.data.name = "isic"
    config.data.duplicates = "near"
    config.data.image_size = 32
    config.data.resize = "crop"
    config.sweep.freeze_depths = ("0", "1", "2", "3", "4", "5", "6", "7", "all")
    config.sweep.learning_rates = (1e-3, 1e-4)
    config.sweep.seeds = (0, 1, 2)
    config.train.epochs = 8
    config.train.batch_size = 128
    config.train.augment = ("crop", "dihedral", "colour")
    config.train.balance = "weights"
    config.judge.metric = "auc"
    return config
