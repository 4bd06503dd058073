"""Test-time augmentation: the ways to look at an image whose answers are averaged. Imports no jax."""

from collections.abc import Callable, Sequence

import numpy as np

from fteng.errors import UserError

View = Callable[[np.ndarray], np.ndarray]


def _turned(quarters: int, mirrored: bool) -> View:
    """Images (n, h, w, 3), h = w, in another position."""

    def view(images: np.ndarray) -> np.ndarray:
        return np.rot90(images[:, :, ::-1] if mirrored else images, quarters, axes=(1, 2))

    return view


# `flip`: left is right. `dihedral`: nor is there an up, as under a dermatoscope.
VIEWS: dict[str, tuple[View, ...]] = {
    "none": (_turned(0, False),),
    "flip": tuple(_turned(0, mirrored) for mirrored in (False, True)),
    "dihedral": tuple(_turned(quarters, mirrored) for mirrored in (False, True) for quarters in range(4)),
}


def choose_views(asked: str, augmented: Sequence[str]) -> str:
    """The name of the views. `as_trained` is what the study's training images were turned by; raises UserError if by nothing."""
    if asked != "as_trained":
        return asked
    trained = next((name for name in ("dihedral", "flip") if name in augmented), None)
    if trained is None:
        raise UserError(
            f"--tta: this study turned no training images (train.augment={','.join(augmented) or 'nothing'}); give --tta=flip if"
            " left and right mean nothing in your images, --tta=dihedral if up and down do not either"
        )
    return trained
