"""Which networks there are. A family is one file and one entry here for each of its networks."""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path

from fteng.backbones import efficientnet_lite
from fteng.backbones.backbone import Backbone
from fteng.backbones.weights import Network, Weights, fit, read_file, read_package
from fteng.errors import UserError

BACKBONES: Mapping[str, Callable[[], Network]] = {
    "efficientnet_lite0": efficientnet_lite.lite0,
}


def load(name: str, weights: str, *, seed: int = 0) -> tuple[Backbone, Weights]:
    """A backbone and its numbers.

    weights: `package` (the pretrained file in the network's package, checked by sha256), `random` (a control; from `seed`), or
    the path of a torch or safetensors file.
    Raises UserError on an unknown name and on a file that cannot be read or does not fit.
    """
    network = _network(name)
    if weights == "random":
        return network.backbone, Weights(*network.initial(seed), f"random:{seed}")
    if weights == "package":
        tensors, digest = read_package(network.package)
        return network.backbone, fit(network, tensors, digest, network.package.requirement)
    tensors, digest = read_file(Path(weights).expanduser())
    return network.backbone, fit(network, tensors, digest, weights)


def _network(name: str) -> Network:
    if name not in BACKBONES:
        close = difflib.get_close_matches(name, BACKBONES, n=1)
        hint = f"did you mean {close[0]}?" if close else "choose one of these"
        raise UserError(f"backbone.name: got {name!r}, allowed: {', '.join(BACKBONES)}; {hint}")
    return BACKBONES[name]()
