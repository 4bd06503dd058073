"""Nothing of a test lands in the user's cache, and the numeric rooms check the shapes in their signatures at every call."""

import os
import tempfile

from jaxtyping import install_import_hook

os.environ["FTENG_CACHE"] = tempfile.mkdtemp(prefix="fteng-test-cache-")

# Before the first of them is imported. `tests/test_shapes.py` fails if the hook falls off one.
SHAPED = (
    "fteng.backbones.backbone",
    "fteng.backbones.convolution",
    "fteng.backbones.layers",
    "fteng.data.augment",
    "fteng.freeze.partition",
    "fteng.probe.features",
    "fteng.probe.logistic",
    "fteng.probe.probe",
    "fteng.train.evaluate",
    "fteng.train.feed",
    "fteng.train.step",
)
install_import_hook(SHAPED, "beartype.beartype")
