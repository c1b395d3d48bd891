"""Loaders of images: small files made here, and the real ones where they are."""

import gzip
import io
import pickle
import struct

import numpy as np
import pytest
from PIL import Image

from polyspike.convert import datasets
from polyspike.spec import InputError


def write_idx(path, array):
    data = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def make_fashion(folder, number=5, suffix=".gz"):
    images = np.random.default_rng(0).integers(0, 256, (number, 28, 28), np.uint8)
    labels = np.arange(number, dtype=np.uint8)
    write_idx(folder / f"t10k-images-idx3-ubyte{suffix}", images)
    write_idx(folder / f"t10k-labels-idx1-ubyte{suffix}", labels)
    return images, labels


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_fashion_mnist_files(tmp_path, monkeypatch, suffix):
    images, labels = make_fashion(tmp_path, suffix=suffix)
    monkeypatch.setenv(datasets.FASHION_MNIST_VARIABLE, str(tmp_path))
    data = datasets.fashion_mnist("test")
    assert data.images.dtype == np.uint8 and data.labels.dtype == np.int64
    assert (data.images == images[:, None]).all() and (data.labels == labels).all()
    assert len(data.classes) == 10 and len(data.first(3)) == 3


def test_missing_files_name_the_package(tmp_path):
    with pytest.raises(InputError, match=r"dataset-fashion-mnist.*POLYSPIKE_FASHION_MNIST"):
        datasets.fashion_mnist("test", tmp_path)


def test_bad_files(tmp_path):
    make_fashion(tmp_path)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    whole = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(whole[:-1]))
    with pytest.raises(InputError, match=r"holds 3919 values, but its header says \(5, 28, 28\)"):
        datasets.fashion_mnist("test", tmp_path)
    path.write_bytes(gzip.compress(whole[:7]))
    with pytest.raises(InputError, match="truncated inside its header"):
        datasets.fashion_mnist("test", tmp_path)
    path.write_bytes(gzip.compress(b"\0\0\x0d" + whole[3:]))
    with pytest.raises(InputError, match="not an IDX file"):
        datasets.fashion_mnist("test", tmp_path)
    make_fashion(tmp_path)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.zeros(4, np.uint8))
    with pytest.raises(InputError, match="do not belong together"):
        datasets.fashion_mnist("test", tmp_path)
    with pytest.raises(InputError, match="not 'validation'"):
        datasets.fashion_mnist("validation", tmp_path)


def test_real_fashion_mnist():
    if not datasets.FASHION_MNIST_FOLDER.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    for split, number in (("train", 60_000), ("test", 10_000)):
        data = datasets.fashion_mnist(split)
        assert data.images.shape == (number, 1, 28, 28)
        assert np.bincount(data.labels).tolist() == [number // 10] * 10


def test_cifar10_jpeg(tmp_path):
    random = np.random.default_rng(0)
    originals = random.integers(0, 256, (3, 2, 2, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    files = []
    for original in originals:
        file = io.BytesIO()
        Image.fromarray(original).save(file, "JPEG", quality=95)
        files.append(file.getvalue())
    offsets = np.cumsum([0] + [len(f) for f in files])
    path = tmp_path / "cifar10_jpeg_test.npz"
    jpeg = np.frombuffer(b"".join(files), np.uint8)
    np.savez(path, jpeg=jpeg, offsets=offsets, labels=np.array([3, 1, 2], np.uint8))
    data = datasets.cifar10_jpeg("test", tmp_path)
    assert data.images.shape == (3, 3, 32, 32) and data.labels.tolist() == [3, 1, 2]
    assert (
        np.abs(data.images[:, :, 8::16, 8::16].astype(int) - originals[:, 8::16, 8::16].transpose(0, 3, 1, 2)).max()
        < 30
    )
    assert len(datasets.cifar10_jpeg("test", tmp_path, limit=2)) == 2
    np.savez(path, jpeg=jpeg, offsets=offsets)
    with pytest.raises(InputError, match="has no array labels"):
        datasets.cifar10_jpeg("test", tmp_path)
    with pytest.raises(InputError, match="no such file"):
        datasets.cifar10_jpeg("train", tmp_path)


def python_batch(path, images, labels):
    """A file as Python 2 and its numpy wrote it, but for the opcodes of byte strings."""
    batch = {b"batch_label": b"made here", b"data": images.reshape(len(images), -1), b"labels": labels.tolist()}
    data = pickle.dumps(batch, protocol=2)
    path.write_bytes(data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))


def binary_batch(path, images, labels):
    path.write_bytes(b"".join(bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True)))


@pytest.mark.parametrize(
    ("write", "suffix", "subfolder"),
    [(python_batch, "", "cifar-10-batches-py"), (binary_batch, ".bin", "cifar-10-batches-bin"), (python_batch, "", "")],
)
def test_cifar10_as_published(tmp_path, write, suffix, subfolder):
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (12, 3, 32, 32), np.uint8)
    labels = random.integers(0, 10, 12)
    folder = tmp_path / subfolder
    folder.mkdir(exist_ok=True)
    for index in range(5):
        write(folder / f"data_batch_{index + 1}{suffix}", images[2 * index :][:2], labels[2 * index :][:2])
    write(folder / f"test_batch{suffix}", images[10:], labels[10:])
    training, test = (datasets.load("cifar10", split, tmp_path) for split in ("train", "test"))
    assert (training.images == images[:10]).all() and (training.labels == labels[:10]).all()
    assert (test.images == images[10:]).all() and (test.labels == labels[10:]).all()
    assert training.name == "CIFAR-10" and training.shape == (3, 32, 32)
    (folder / f"data_batch_3{suffix}").unlink()
    with pytest.raises(InputError, match=rf"data_batch_3{suffix}: no such file"):
        datasets.cifar10("train", tmp_path)


def test_bad_cifar10_files(tmp_path):
    images, labels = np.zeros((2, 3, 32, 32), np.uint8), np.array([1, 2])
    with pytest.raises(InputError, match=r"needs --data FOLDER.*data_batch_1"):
        datasets.load("cifar10", "train")
    with pytest.raises(InputError, match=r"no such folder.*data_batch_1"):
        datasets.cifar10("train", tmp_path / "absent")
    with pytest.raises(InputError, match=r"holds no CIFAR-10 test images.*cifar10_jpeg_test.npz"):
        datasets.cifar10("test", tmp_path)
    path = tmp_path / "test_batch"
    python_batch(path, images, labels[:1])
    with pytest.raises(InputError, match="and 1 labels, but must hold"):
        datasets.cifar10("test", tmp_path)
    path.write_bytes(pickle.dumps({b"data": print}, protocol=2))
    with pytest.raises(InputError, match=r"builtin.*print, which no file of CIFAR-10 does"):
        datasets.cifar10("test", tmp_path)
    path.write_bytes(b"not a pickle")
    with pytest.raises(InputError, match="not a file of CIFAR-10's python version"):
        datasets.cifar10("test", tmp_path)
    path.unlink()
    path = tmp_path / "test_batch.bin"
    binary_batch(path, images, labels)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="holds 6145 bytes, but must hold 3073 for each"):
        datasets.cifar10("test", tmp_path)
    binary_batch(path, images, np.array([1, 10]))
    with pytest.raises(InputError, match="has a label 10"):
        datasets.cifar10("test", tmp_path)
    with pytest.raises(InputError, match="no data set 'mnist'; there are fashion-mnist, cifar10"):
        datasets.load("mnist", "test")


def test_cifar10_finds_the_jpeg_archives(tmp_path):
    jpeg = io.BytesIO()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(jpeg, "JPEG")
    data = np.frombuffer(jpeg.getvalue(), np.uint8)
    np.savez(tmp_path / "cifar10_jpeg_test.npz", jpeg=data, offsets=np.array([0, len(data)]), labels=np.array([7]))
    found = datasets.cifar10("test", tmp_path)
    assert found.name == "CIFAR-10 (JPEG)" and found.labels.tolist() == [7]
