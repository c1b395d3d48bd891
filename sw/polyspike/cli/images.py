"""Reading images and labels from files. The one place where the command's image formats are defined."""

import dataclasses
import gzip
import struct
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyspike.spec import InputError

#: What an error lists when a file is none of them.
FORMATS = (
    ".npy (one uint8 array), .npz (arrays 'images' and, if there are any, 'labels'), a folder of PNG files, "
    "or IDX files as MNIST has them (*-ubyte, *-ubyte.gz)"
)

#: What numpy raises at files that are damaged, or hold something else (TypeError: an .npy file named .npz).
_UNREADABLE = (ValueError, EOFError, OSError, TypeError, zipfile.BadZipFile)


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Images as they were read, and what came with them."""

    #: uint8, [images, channels, rows, pixels]; events in bins [images, bins, channels, rows, pixels]
    pixels: NDArray[np.uint8]
    #: int64, [images]; None where the file has none
    labels: NDArray[np.int64] | None
    #: file names of a folder's images; empty for arrays
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pixels)

    def first(self, limit: int | None) -> "Images":
        """Return the first `limit` images; all of them where it is None."""
        labels = None if self.labels is None else self.labels[:limit]
        return Images(self.pixels[:limit], labels, self.names[:limit])


def load_images(path: Path | str) -> Images:
    """Read images from a file or a folder.

    Arrays are [images, channels, rows, pixels], or [images, rows, pixels] for one channel. Those of events have the
    time bins as another axis, [images, bins, channels, rows, pixels]. A folder's PNG files are taken in the order of
    their names, grey ones as one channel, coloured ones as three.

    Raises
    ------
    InputError
        There is nothing to read, or it is not uint8 images of one size. The message says what would be right.
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder. Images are read from {FORMATS}")
    if path.suffix == ".npz":
        arrays = _arrays(path)
        name = "images" if "images" in arrays else next(iter(arrays), "")
        if name != "images" and len(arrays) != 1:
            raise InputError(f"{path}: has no array 'images'; it holds {', '.join(arrays) or 'nothing'}")
        labels = _check_labels(path, arrays["labels"]) if "labels" in arrays else None
        images = Images(_check_pixels(path, arrays[name]), labels)
        if labels is not None:
            check_lengths(path, images, labels)
        return images
    if path.suffix == ".npy":
        return Images(_check_pixels(path, _array(path)), None)
    if _is_idx(path):
        return Images(_check_pixels(path, _idx(path)), None)
    raise InputError(f"{path}: not a format that images are read from, which are {FORMATS}")


def load_labels(path: Path | str) -> NDArray[np.int64]:
    """Read labels, int64 [images], from a .npy, .npz (array 'labels') or IDX file.

    Raises
    ------
    InputError
        There is nothing to read, or it is not one integer an image.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file. Labels are read from .npy, .npz (array 'labels') or IDX files")
    if path.suffix == ".npz":
        arrays = _arrays(path)
        if "labels" not in arrays:
            raise InputError(f"{path}: has no array 'labels'; it holds {', '.join(arrays) or 'nothing'}")
        return _check_labels(path, arrays["labels"])
    if path.suffix == ".npy":
        return _check_labels(path, _array(path))
    if _is_idx(path):
        return _check_labels(path, _idx(path))
    raise InputError(f"{path}: labels are read from .npy, .npz (array 'labels') or IDX files")


def check_lengths(path: Path | str, images: Images, labels: NDArray[np.int64]) -> None:
    """Raise InputError unless there is one label an image."""
    if len(images) != len(labels):
        raise InputError(f"{path}: {len(labels)} labels for {len(images)} images; there must be one for each")


def _check_pixels(path: Path, array: NDArray[np.generic]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise InputError(f"{path}: images must be uint8 (0..255), not {array.dtype}")
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim not in (4, 5):
        raise InputError(
            f"{path}: images have shape {array.shape}, but must be [images, channels, rows, pixels] "
            "or [images, rows, pixels]; events [images, bins, channels, rows, pixels]"
        )
    if array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        raise InputError(
            f"{path}: images of shape {array.shape} look channels last; "
            "save images.transpose(0, 3, 1, 2), which is [images, channels, rows, pixels]"
        )
    if array.size == 0:
        raise InputError(f"{path}: holds no images (shape {array.shape})")
    return np.ascontiguousarray(array, dtype=np.uint8)


def _check_labels(path: Path, array: NDArray[np.generic]) -> NDArray[np.int64]:
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"{path}: labels must be integers of shape [images], not {array.dtype} of shape {array.shape}")
    return array.astype(np.int64)


def _array(path: Path) -> NDArray[np.generic]:
    # Opened here: numpy leaves a file open that it cannot read.
    try:
        with path.open("rb") as file:
            array = np.load(file, allow_pickle=False)
    except _UNREADABLE as error:
        raise InputError(f"{path}: not a readable .npy file of plain numbers ({error})") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: holds an archive of arrays; rename it to .npz")
    return array


def _arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except _UNREADABLE as error:
        raise InputError(f"{path}: not a readable .npz file of plain numbers ({error})") from None


def _folder(path: Path) -> Images:
    from PIL import Image, UnidentifiedImageError

    files = sorted(file for file in path.iterdir() if file.suffix.lower() == ".png")
    if not files:
        raise InputError(f"{path}: the folder holds no PNG files")
    maps = []
    for file in files:
        try:
            with Image.open(file) as image:
                mode = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}.get(image.mode)
                if mode is None:
                    raise InputError(
                        f"{file}: PNG mode {image.mode!r} has more than colour or grey with 8 bits; "
                        "save it as 8-bit grey or RGB without transparency"
                    )
                pixels = np.asarray(image.convert(mode), dtype=np.uint8)
        except (UnidentifiedImageError, OSError) as error:
            raise InputError(f"{file}: not a readable PNG file ({error})") from None
        maps.append(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
        if maps[-1].shape != maps[0].shape:
            raise InputError(
                f"{file}: has shape {maps[-1].shape}, but {files[0].name} has {maps[0].shape} "
                "(channels, rows, pixels); all images must be alike"
            )
    return Images(np.stack(maps), None, tuple(file.name for file in files))


def _is_idx(path: Path) -> bool:
    return "ubyte" in path.name or path.suffix == ".idx"


def _idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file: two zero bytes, type 8 (uint8), number of axes, sizes big-endian, data."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: not a readable gzip file ({error})") from None
    axes = data[3] if len(data) >= 4 else 0
    if data[:3] != b"\0\0\x08" or len(data) < 4 + 4 * axes:
        raise InputError(f"{path}: not an IDX file of unsigned bytes")
    shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
    values = np.frombuffer(data, np.uint8, offset=4 + 4 * axes)
    if values.size != int(np.prod(shape)):
        raise InputError(f"{path}: truncated; {values.size} values for shape {shape}")
    return values.reshape(shape)
