"""A folder with one sub-folder a class."""

import os
from collections.abc import Iterator
from pathlib import Path

from fteng.config import DataConfig
from fteng.data.records import LeftOut, Note, Record, RecordSet
from fteng.errors import UserError

# What Pillow reads and people have. Other files are left out by name.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"})
# What file managers and operating systems leave behind: counted in one note, not worth a line each.
_LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


def read_folder(config: DataConfig) -> RecordSet:
    """Each image below `PATH/CLASS/`, at any depth, is a record, its id the path below PATH; every image is a group of its own.

    A link to a file is followed, a link to a folder only in place of a class folder, so that no loop can catch the reader.
    Raises UserError if there is no such folder, fewer than two classes, or a class without images.
    """
    root = root_folder(config, "the folder of your images, with one sub-folder a class")
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not is_litter(entry.name))
    if len(folders) < 2:
        names = f"only {folders[0].name!r}" if folders else "none"
        raise UserError(f"data.path: {root} must have a sub-folder for each of two or more classes, got {names}")
    records: list[Record] = []
    left_out = [
        LeftOut(printable(entry.name), "lies beside the class folders", is_image=entry.suffix.lower() in IMAGE_SUFFIXES)
        for entry in sorted(root.iterdir())
        if entry.is_file()
    ]
    litter = [item.id for item in left_out if is_litter(item.id)]
    left_out = [item for item in left_out if not is_litter(item.id)]
    for folder in folders:
        if not is_utf8(folder.name):
            raise UserError(f"data.path: the name of class folder {printable(folder.name)!r} is not UTF-8; rename it")
        before = len(records)
        for inner, is_link in _walk(folder):
            name, suffix = f"{folder.name}/{inner}", os.path.splitext(inner)[1]  # noqa: PTH122 - strings: there may be millions
            if not is_utf8(name):
                is_image = suffix.lower() in IMAGE_SUFFIXES
                left_out.append(LeftOut(printable(name), "its name is not UTF-8; rename it", is_image=is_image))
            elif any(is_litter(part) for part in inner.split("/")):
                litter.append(name)
            elif is_link:
                told = "a link to a folder is not followed; put the folder itself there"
                left_out.append(LeftOut(name, told, is_image=False))
            elif suffix.lower() in IMAGE_SUFFIXES:
                records.append(Record(name, folder.name, name, root / name))
            else:
                left_out.append(LeftOut(name, f"not an image by its name ({suffix or 'no suffix'})", is_image=False))
        if len(records) == before:
            raise UserError(f"data.path: class folder {str(folder)!r} has no image; fill it, or take it away")
    notes = (Note("hidden and system files", "skipped", tuple(litter)),) if litter else ()
    return RecordSet(config.name or root.resolve().name, tuple(records), tuple(left_out), notes)


def root_folder(config: DataConfig, wanted: str) -> Path:
    """data.path as a folder that is there, or UserError that says what is `wanted`."""
    root = Path(config.path).expanduser()
    if not config.path:
        raise UserError(f"data.path is empty; give {wanted}: --config.data.path=DIR")
    if not root.is_dir():
        raise UserError(f"data.path: no folder {str(root)!r} (seen from {Path.cwd()}); give {wanted}")
    return root


def is_litter(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or left behind by an operating system."""
    return name.startswith(".") or name.lower() in _LITTER


def is_utf8(name: str) -> bool:
    """Whether a file's name can be written down: Python keeps bytes that are no UTF-8 as lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(name: str) -> str:
    """The name with its lone surrogates spelt out, for a record file."""
    return name.encode("utf-8", "backslashreplace").decode()


def walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As os.walk, in the order of names; `inner` may be changed. Raises UserError on a folder that may not be read."""

    def refuse(error: OSError) -> None:
        raise UserError(f"data.path: cannot look into {error.filename} ({error.strerror}); allow it, or move it out of {folder}")

    for place, inner, files in os.walk(folder, onerror=refuse):
        inner.sort()
        yield place, inner, sorted(files)


def _walk(folder: Path) -> Iterator[tuple[str, bool]]:
    """Files, and links to folders, below `folder`: the path from there with /, and whether it is such a link."""
    for place, inner, files in walk(folder):
        before = Path(place).relative_to(folder).as_posix()
        before = "" if before == "." else f"{before}/"
        links = {name for name in inner if Path(place, name).is_symlink()}
        yield from ((f"{before}{name}", name in links) for name in sorted([*files, *links]))
