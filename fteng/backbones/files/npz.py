"""numpy's .npz: a zip archive of .npy files. Objects, which numpy would unpickle, are refused."""

import io
import zipfile
import zlib

import numpy as np

from fteng.backbones.files.errors import DamagedFileError, RefusedFileError

# numpy compresses when asked to, weights hardly shrink: a small archive that unfolds to a huge one stops here.
_UNFOLDED_AT_MOST = 32
_UNFOLDED_ALWAYS = 2**24


def read_npz(content: bytes) -> dict[str, np.ndarray]:
    """Arrays by name, in the machine's byte order. Raises DamagedFileError or RefusedFileError."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unfolded = sum(entry.file_size for entry in archive.infolist())
            if unfolded > max(_UNFOLDED_AT_MOST * len(content), _UNFOLDED_ALWAYS):
                raise RefusedFileError(f"would unfold from {len(content)} to {unfolded} bytes; save it with numpy.savez")
            return {entry.filename.removesuffix(".npy"): _array(archive, entry) for entry in archive.infolist()}
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        ValueError,
        NotImplementedError,
        MemoryError,
        OverflowError,
        OSError,
    ) as error:
        raise DamagedFileError(f"{type(error).__name__}: {error}") from error


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    name = entry.filename.removesuffix(".npy")[:80]
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
        raise DamagedFileError(f"its entry {name!r} is packed in a way numpy does not write")
    file = io.BytesIO(archive.read(entry))
    version = np.lib.format.read_magic(file)
    # Versions differ in the width of one length and in the encoding of field names, which plain numbers have not.
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, turned, dtype = read_header(file)
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        what = "Python objects, which only a pickle can restore" if dtype.hasobject else f"type {dtype.str}"
        raise RefusedFileError(f"holds {name!r} of {what}; allowed: floats, integers, booleans; save plain arrays")
    data = file.read()
    if any(length < 0 for length in shape):
        raise DamagedFileError(f"{name!r} has the shape {shape}")
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if turned else "C")
    return array.astype(dtype.newbyteorder("="), order="C")
