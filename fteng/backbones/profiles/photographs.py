"""`python -m fteng.backbones.profiles.photographs FOLDER`: the images of the shipped source profile, as PNG files.

Every colour photograph of a camera that scikit-image 0.26 and scikit-learn 1.9 carry in their packages: 7. Left out are drawings
and patterns (logo, color, chessboard_RGB), grey images, pictures by instruments (retina, ihc: a microscope, hubble_deep_field: a
telescope) and the right one of the stereo pair.
"""

import argparse
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from PIL import Image

from fteng.errors import UserError, says_user_errors

_SIZE = 224
# Package of the images -> their names; the folder of each becomes a class of the data set, which must have two.
PHOTOGRAPHS = {
    "skimage.data": ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"),
    "sklearn.datasets.images": ("china.jpg", "flower.jpg"),
}


@says_user_errors
def main(arguments: list[str]) -> int:
    """Exit status: 0, or 2 when the user has something to mend."""
    parser = argparse.ArgumentParser(prog="python -m fteng.backbones.profiles.photographs", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to write; must not be there yet")
    folder: Path = parser.parse_args(arguments).folder
    if folder.exists():
        raise UserError(f"{folder} is there already; name a folder that is not")
    print(f"{write(folder)} images in {folder}")
    return 0


def write(folder: Path) -> int:
    """Every crop of every photograph as FOLDER/PACKAGE/NAME-INDEX.png; returns how many. Raises UserError."""
    count = 0
    for package, names in PHOTOGRAPHS.items():
        inner = folder / package
        inner.mkdir(parents=True)
        for name in names:
            try:
                found = resources.files(package) / name
                with found.open("rb") as file, Image.open(file) as image:
                    photograph = image.convert("RGB")
            except (ImportError, OSError) as error:
                raise UserError(f"no {name} of {package} ({error}); pip install scikit-image==0.26.0 scikit-learn==1.9.1") from None
            for index, box in enumerate(boxes(*photograph.size)):
                square = photograph.resize((_SIZE, _SIZE), Image.Resampling.BICUBIC, box)
                square.save(inner / f"{Path(name).stem}-{index}.png")
                count += 1
    return count


def boxes(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """Squares of an image as left, upper, right, lower: of its short side at both ends and in the middle of the long one, and of
    two thirds of that side in the four corners."""
    side, spare = min(width, height), abs(width - height)
    for start in sorted({0, spare // 2, spare}):
        left, upper = (start, 0) if width >= height else (0, start)
        yield left, upper, left + side, upper + side
    part = 2 * side // 3
    for left in (0, width - part):
        for upper in (0, height - part):
            yield left, upper, left + part, upper + part


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
