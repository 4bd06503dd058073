"""Which networks there are. A family is one file and one entry here for each of its networks."""

import dataclasses
import difflib
import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from fteng.backbones import all_cnn, convnext, efficientnet, resnet, vgg, vit
from fteng.backbones.backbone import Backbone, Preprocess
from fteng.backbones.naming import IMAGENET_MEAN, IMAGENET_STD
from fteng.backbones.network import Network, truncate
from fteng.backbones.origin import open_weights
from fteng.backbones.weights import Weights, fit
from fteng.config import BackboneConfig
from fteng.errors import UserError
from fteng.freeze.plan import last_stage

BACKBONES: Mapping[str, Callable[[], Network]] = {
    "all_cnn_c": all_cnn.all_cnn_c,
    "convnext_tiny": convnext.tiny,
    "efficientnet_b0": efficientnet.b0,
    "efficientnet_lite0": efficientnet.lite0,
    "efficientnet_lite1": efficientnet.lite1,
    "efficientnet_lite2": efficientnet.lite2,
    "resnet18": resnet.resnet18,
    "resnet50": resnet.resnet50,
    "tf_efficientnet_b0": efficientnet.tf_b0,
    "vgg16": vgg.vgg16,
    "vgg16_bn": vgg.vgg16_bn,
    "vit_base_patch16": vit.base_patch16,
    "vit_small_patch14_dinov2": vit.small_patch14_dinov2,
    "vit_small_patch16": vit.small_patch16,
}


# What timm calls a network where it is not the same. Files of other architectures can fit by name and shape and be wrong.
_TIMM: Mapping[str, tuple[str, ...]] = {
    "efficientnet_lite0": ("tf_efficientnet_lite0",),
    "efficientnet_lite1": ("tf_efficientnet_lite1",),
    "efficientnet_lite2": ("tf_efficientnet_lite2",),
    "vit_base_patch16": ("vit_base_patch16_224",),
    "vit_small_patch16": ("vit_small_patch16_224",),
}


def load(config: BackboneConfig, *, seed: int = 0) -> tuple[Backbone, Weights]:
    """A backbone up to its last stage, and its numbers; how it wants its images is as its weights were published.

    seed: of random weights. Raises UserError on an unknown name and on a file that cannot be read or does not fit.
    """
    network = find(config.name)
    if config.last_stage:
        network = truncate(network, last_stage(config.last_stage, network.backbone.stages, network.backbone.groups) + 1)
    if config.weights == "random":
        weights = Weights(*network.initial(seed), None, f"random:{seed}", "")
        published = None
    else:
        origin = open_weights(config.weights, network.package, config.name, _TIMM.get(config.name, (config.name,)))
        shown = f"backbone.weights=package of {config.name}" if config.weights == "package" else config.weights
        weights = fit(network, origin.tensors, origin.digest, shown)._replace(notes=origin.notes)
        published = origin.preprocess
    by_naming = {naming.name: naming.preprocess for naming in network.namings}
    preprocess = published or by_naming.get(weights.naming, network.backbone.preprocess)
    if config.preprocess != "weights":
        preprocess = _preprocess(config.preprocess, preprocess)
    return dataclasses.replace(network.backbone, preprocess=preprocess), weights


def check_size(backbone: Backbone, weights: Weights, size: int) -> None:
    """Raises UserError where the network cannot take images of `size` pixels."""
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    y, _ = jax.eval_shape(backbone.apply, weights.params, weights.stats, x)
    if 0 in y.shape:
        raise UserError(f"data.image_size={size} leaves {backbone.name} no pixel in its last stage; give at least 32")


@functools.cache
def find(name: str) -> Network:
    """The network of that name, made once. Raises UserError that lists those there are."""
    if name not in BACKBONES:
        close = difflib.get_close_matches(name, BACKBONES, n=1)
        hint = f"did you mean {close[0]}?" if close else "choose one of these"
        raise UserError(f"backbone.name: got {name!r}, allowed: {', '.join(BACKBONES)}; {hint}")
    return BACKBONES[name]()


def _preprocess(name: str, published: Preprocess) -> Preprocess:
    """One of the three ways in which image networks are commonly fed, for a file whose own way is not the usual one."""
    mean, std, order = {
        "imagenet": (IMAGENET_MEAN, IMAGENET_STD, "RGB"),
        "half": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5), "RGB"),
        "caffe": ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0), "BGR"),
    }[name]
    return published._replace(mean=mean, std=std, channel_order=order)
