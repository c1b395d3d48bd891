"""Loaders of images: small files made here, and the real ones where they are."""

import gzip
import io
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
