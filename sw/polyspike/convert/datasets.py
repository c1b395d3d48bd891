"""Loaders of real image data: Fashion-MNIST (IDX files) and CIFAR-10 (python or binary files, or a JPEG archive).

Images are uint8, [number, channels, height, width]; labels are int64, [number].
"""

import codecs
import dataclasses
import gzip
import io
import os
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

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


_Value = TypeVar("_Value")


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images: uint8 [number, channels, height, width], int64 [number], and the names of the classes.

    Events have their bins as another axis of images, [number, bins, channels, height, width].
    `name` is what figures measured on them are labelled with.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    name: str

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, number: int) -> "Dataset":
        """Return the first `number` images."""
        return Dataset(self.images[:number], self.labels[:number], self.classes, self.name)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        channels, height, width = self.images.shape[-3:]
        return channels, height, width


def fashion_mnist(split: str, folder: Path | str | None = None) -> Dataset:
    """Load Fashion-MNIST, `split` "train" (60,000 images) or "test" (10,000), 1 x 28 x 28.

    The files are looked for in `folder`, else in the folder that POLYSPIKE_FASHION_MNIST names, else where Debian's
    package puts them.

    Raises
    ------
    InputError
        A file is missing or damaged, or the split is unknown.
    """
    prefix = _of_split({"train": "train", "test": "t10k"}, split)
    if folder is None:
        folder = os.environ.get(FASHION_MNIST_VARIABLE) or FASHION_MNIST_FOLDER
    base = Path(folder) / prefix
    images = read_idx(Path(f"{base}-images-idx3-ubyte.gz"))
    labels = read_idx(Path(f"{base}-labels-idx1-ubyte.gz"))
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise InputError(f"{base}-*: {images.shape} images and {labels.shape} labels do not belong together")
    return Dataset(images[:, None], labels.astype(np.int64), FASHION_MNIST_CLASSES, "Fashion-MNIST")


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
    path = Path(folder) / _of_split(_JPEG_FILES, split)
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
    return Dataset(images, labels[:number], CIFAR10_CLASSES, "CIFAR-10 (JPEG)")


def cifar10(split: str, folder: Path | str) -> Dataset:
    """Load CIFAR-10 from the files it is published as, "train" (50,000 images) or "test" (10,000), 3 x 32 x 32.

    `folder` holds those of the python version (`data_batch_1` .. `data_batch_5`, `test_batch`), those of the binary
    version (the same with `.bin`), or the two archives of `cifar10_jpeg`; or a subfolder of the name that the
    published archives unpack to does.

    Raises
    ------
    InputError
        There are no such files, or one is damaged.
    """
    base = Path(folder)
    if not base.is_dir():
        raise InputError(f"{base}: no such folder; it should hold {_CIFAR10_FORMS}")
    names = _of_split(_BATCHES, split)
    for place in (base, base / "cifar-10-batches-py", base / "cifar-10-batches-bin"):
        if (place / _JPEG_FILES[split]).is_file():
            return cifar10_jpeg(split, place)
        for suffix, read in (("", _python_batch), (".bin", _binary_batch)):
            if (place / f"{names[0]}{suffix}").is_file():
                parts = [read(place / f"{name}{suffix}") for name in names]
                images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
                return Dataset(images.reshape(-1, 3, 32, 32), labels.astype(np.int64), CIFAR10_CLASSES, "CIFAR-10")
    raise InputError(f"{base}: holds no CIFAR-10 {split} images; it should hold {_CIFAR10_FORMS}")


_BATCHES = {"train": tuple(f"data_batch_{index}" for index in range(1, 6)), "test": ("test_batch",)}
_JPEG_FILES = {"train": "cifar10_jpeg_train.npz", "test": "cifar10_jpeg_test.npz"}
_CIFAR10_FORMS = (
    "data_batch_1 .. data_batch_5 and test_batch (CIFAR-10's python version), the same files with .bin (its binary "
    "version), or cifar10_jpeg_train.npz and cifar10_jpeg_test.npz"
)
#: Bytes of an image, its label before it in the binary version.
_PIXELS = 3 * 32 * 32


def _of_split(values: Mapping[str, _Value], split: str) -> _Value:
    if split not in values:
        raise InputError(f"there are the splits {' and '.join(map(repr, values))}, not {split!r}")
    return values[split]


class _ArraysOnly(pickle.Unpickler):
    """An unpickler for what CIFAR-10's python files hold, numpy arrays, and nothing else."""

    #: The published files were written by Python 2; Python 3 writes bytes through `_codecs`, NumPy 2 has moved.
    _ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
        ("_codecs", "encode"): codecs.encode,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it wants {module}.{name}, which no file of CIFAR-10 does")
        return self._ALLOWED[module, name]


def _python_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        with path.open("rb") as file:
            batch = _ArraysOnly(file, encoding="bytes").load()
        images, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"], np.int64)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except Exception as error:
        # A damaged pickle raises almost anything.
        raise InputError(f"{path}: not a file of CIFAR-10's python version ({error})") from None
    if images.dtype != np.uint8 or images.shape != (len(labels), _PIXELS):
        raise InputError(
            f"{path}: holds {images.dtype} {images.shape} and {len(labels)} labels, "
            f"but must hold uint8 [number, {_PIXELS}] and a label for each"
        )
    return images, labels


def _binary_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    data = np.fromfile(path, np.uint8)
    if data.size == 0 or data.size % (1 + _PIXELS):
        raise InputError(f"{path}: holds {data.size} bytes, but must hold {1 + _PIXELS} for each image")
    records = data.reshape(-1, 1 + _PIXELS)
    if records[:, 0].max() >= len(CIFAR10_CLASSES):
        raise InputError(f"{path}: has a label {records[:, 0].max()}, but CIFAR-10 has {len(CIFAR10_CLASSES)} classes")
    return records[:, 1:], records[:, 0].astype(np.int64)


#: The data sets by the names that commands call them by.
DATASETS: dict[str, Callable[[str, Path | None], Dataset]] = {
    "fashion-mnist": fashion_mnist,
    "cifar10": lambda split, folder: cifar10(split, _given(folder, "cifar10", _CIFAR10_FORMS)),
}


def load(name: str, split: str, folder: Path | None = None) -> Dataset:
    """Load a data set by its name in `DATASETS`, "train" or "test", from `folder`.

    Raises
    ------
    InputError
        There is no such data set, or its files are missing or damaged.
    """
    if name not in DATASETS:
        raise InputError(f"there is no data set {name!r}; there are {', '.join(DATASETS)}")
    return DATASETS[name](split, folder)


def _given(folder: Path | None, name: str, forms: str) -> Path:
    if folder is None:
        raise InputError(f"data set {name!r} needs --data FOLDER, which holds {forms}")
    return folder
