"""Loaders of real image data: Fashion-MNIST (IDX files) and JPEG archives of CIFAR-10.

Images are uint8, [number, channels, height, width]; labels are int64, [number].
"""

import dataclasses
import gzip
import io
import os
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polyspike.spec import InputError

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

#: Where Debian's package `dataset-fashion-mnist` puts its files. The environment variable of that name overrides it.
FASHION_MNIST_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST_VARIABLE = "POLYSPIKE_FASHION_MNIST"


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images: uint8 [number, channels, height, width], int64 [number], and the names of the classes."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, number: int) -> "Dataset":
        """Return the first `number` images."""
        return Dataset(self.images[:number], self.labels[:number], self.classes)


def fashion_mnist(split: str, folder: Path | str | None = None) -> Dataset:
    """Load Fashion-MNIST, `split` "train" (60,000 images) or "test" (10,000), 1 x 28 x 28.

    The files are looked for in `folder`, else in the folder that POLYSPIKE_FASHION_MNIST names, else where Debian's
    package puts them.

    Raises
    ------
    InputError
        A file is missing or damaged, or the split is unknown.
    """
    prefixes = {"train": "train", "test": "t10k"}
    if split not in prefixes:
        raise InputError(f"Fashion-MNIST has the splits 'train' and 'test', not {split!r}")
    if folder is None:
        folder = os.environ.get(FASHION_MNIST_VARIABLE) or FASHION_MNIST_FOLDER
    base = Path(folder) / prefixes[split]
    images = read_idx(Path(f"{base}-images-idx3-ubyte.gz"))
    labels = read_idx(Path(f"{base}-labels-idx1-ubyte.gz"))
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise InputError(f"{base}-*: {images.shape} images and {labels.shape} labels do not belong together")
    return Dataset(images[:, None], labels.astype(np.int64), FASHION_MNIST_CLASSES)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of bytes, gzipped or not (then without `.gz`).

    Raises
    ------
    InputError
        The file is missing, truncated, or holds something else than bytes.
    """
    plain = path.with_suffix("")
    if path.is_file():
        data = gzip.decompress(path.read_bytes())
    elif plain.is_file():
        data = plain.read_bytes()
    else:
        raise InputError(
            f"{path}: no such file. Install Debian's package dataset-fashion-mnist (apt-get install "
            f"dataset-fashion-mnist), or set {FASHION_MNIST_VARIABLE} to the folder that holds the IDX files"
        )
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise InputError(f"{path}: not an IDX file of unsigned bytes")
    axes = data[3]
    start = 4 + 4 * axes
    if len(data) < start:
        raise InputError(f"{path}: truncated inside its header")
    shape = struct.unpack(f">{axes}I", data[4:start])
    if len(data) - start != int(np.prod(shape)):
        raise InputError(f"{path}: holds {len(data) - start} values, but its header says {shape}")
    return np.frombuffer(bytearray(data), np.uint8, offset=start).reshape(shape)


def cifar10_jpeg(split: str, folder: Path | str, limit: int | None = None) -> Dataset:
    """Load "CIFAR-10 (JPEG)": CIFAR-10 as slightly lossy JPEG files in `cifar10_jpeg_<split>.npz`, 3 x 32 x 32.

    The archive has `jpeg` (all files, one after the other, as bytes), `offsets` (number + 1 positions in it) and
    `labels`.

    Parameters
    ----------
    split
        "train" or "test".
    folder
        Where the archive is.
    limit
        Decode the first `limit` images only.

    Raises
    ------
    InputError
        The archive is missing, or does not hold these arrays.
    """
    path = Path(folder) / f"cifar10_jpeg_{split}.npz"
    if not path.is_file():
        raise InputError(f"{path}: no such file; it should be an archive of JPEG images with the labels of CIFAR-10")
    with np.load(path, allow_pickle=False) as archive:
        missing = {"jpeg", "offsets", "labels"} - set(archive.files)
        if missing:
            raise InputError(f"{path}: has no array {', '.join(sorted(missing))}")
        data, offsets, labels = archive["jpeg"], archive["offsets"], archive["labels"].astype(np.int64)
    number = len(labels) if limit is None else min(limit, len(labels))
    images = np.empty((number, 3, 32, 32), np.uint8)
    for index in range(number):
        file = io.BytesIO(data[offsets[index] : offsets[index + 1]].tobytes())
        with Image.open(file) as image:
            images[index] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    return Dataset(images, labels[:number], CIFAR10_CLASSES)
