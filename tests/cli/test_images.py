"""Images and labels from files: what is read, and what is refused with which message."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyspike.cli.images import check_lengths, load_images, load_labels
from polyspike.spec import InputError

PIXELS = np.arange(3 * 2 * 5, dtype=np.uint8).reshape(3, 2, 5)


def test_array_of_grey_images_gets_a_channel_axis(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PIXELS)
    images = load_images(tmp_path / "a.npy")
    assert images.pixels.dtype == np.uint8
    assert np.array_equal(images.pixels, PIXELS[:, None])
    assert images.labels is None


def test_archive_with_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS[:, None], labels=np.array([2, 0, 1], np.uint8))
    images = load_images(tmp_path / "a.npz")
    assert np.array_equal(images.pixels, PIXELS[:, None])
    assert images.labels is not None
    assert images.labels.tolist() == [2, 0, 1]
    assert len(images.first(2)) == 2
    assert load_labels(tmp_path / "a.npz").tolist() == [2, 0, 1]


def test_events_keep_their_bins(tmp_path: Path) -> None:
    events = np.arange(2 * 3 * 2 * 4 * 1, dtype=np.uint8).reshape(2, 3, 2, 4, 1)
    np.savez(tmp_path / "a.npz", images=events)
    assert np.array_equal(load_images(tmp_path / "a.npz").pixels, events)
    np.save(tmp_path / "a.npy", events[None])
    with pytest.raises(InputError, match=r"events \[images, bins, channels, rows, pixels\]"):
        load_images(tmp_path / "a.npy")


def test_archive_with_one_array_of_another_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", test=PIXELS)
    assert load_images(tmp_path / "a.npz").pixels.shape == (3, 1, 2, 5)


def test_folder_of_grey_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    for index, name in ((2, "c.png"), (0, "a.png"), (1, "b.PNG")):
        Image.fromarray(PIXELS[index]).save(tmp_path / name, format="png")
    (tmp_path / "notes.txt").write_text("not an image")
    images = load_images(tmp_path)
    assert images.names == ("a.png", "b.PNG", "c.png")
    assert np.array_equal(images.pixels, PIXELS[:, None])


def test_folder_of_coloured_files_becomes_channels_first(tmp_path: Path) -> None:
    colours = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    Image.fromarray(colours).save(tmp_path / "a.png")
    pixels = load_images(tmp_path).pixels
    assert pixels.shape == (1, 3, 4, 6)
    assert all(np.array_equal(pixels[0, channel], colours[:, :, channel]) for channel in range(3))


@pytest.mark.parametrize("name", ["a-ubyte", "a-ubyte.gz"])
def test_idx(tmp_path: Path, name: str) -> None:
    data = b"\0\0\x08\x03" + struct.pack(">3I", *PIXELS.shape) + PIXELS.tobytes()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert np.array_equal(load_images(tmp_path / name).pixels, PIXELS[:, None])
    labels = b"\0\0\x08\x01" + struct.pack(">I", 3) + bytes([7, 8, 9])
    (tmp_path / "labels-ubyte").write_bytes(labels)
    assert load_labels(tmp_path / "labels-ubyte").tolist() == [7, 8, 9]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (PIXELS.astype(np.float32) / 255, r"must be uint8 \(0..255\), not float32"),
        (PIXELS[0], r"have shape \(2, 5\), but must be \[images, channels, rows, pixels\]"),
        (np.zeros((4, 28, 28, 3), np.uint8), r"look channels last; save images.transpose\(0, 3, 1, 2\)"),
        (np.zeros((0, 28, 28), np.uint8), "holds no images"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=f"a.npy: .*{message}"):
        load_images(tmp_path / "a.npy")


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"not": "numbers"}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="plain numbers"):
        load_images(tmp_path / "a.npy")
    np.savez(tmp_path / "a.npz", images=np.array([{"not": "numbers"}], dtype=object))
    with pytest.raises(InputError, match="plain numbers"):
        load_images(tmp_path / "a.npz")


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS)
    for name in ("a.npz", "a.npy"):
        (tmp_path / name).write_bytes((tmp_path / "a.npz").read_bytes()[:50])
        with pytest.raises(InputError, match="not a readable"):
            load_images(tmp_path / name)
    (tmp_path / "a-ubyte").write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", *PIXELS.shape) + PIXELS.tobytes()[:-1])
    with pytest.raises(InputError, match="truncated"):
        load_images(tmp_path / "a-ubyte")
    (tmp_path / "a-ubyte.gz").write_bytes(b"not gzip")
    with pytest.raises(InputError, match="gzip"):
        load_images(tmp_path / "a-ubyte.gz")


def test_archive_without_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train=PIXELS, test=PIXELS)
    with pytest.raises(InputError, match="has no array 'images'; it holds train, test"):
        load_images(tmp_path / "a.npz")
    with pytest.raises(InputError, match="has no array 'labels'"):
        load_labels(tmp_path / "a.npz")


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no PNG files"):
        load_images(tmp_path)
    Image.fromarray(PIXELS[0]).save(tmp_path / "a.png")
    Image.fromarray(PIXELS[0].T.copy()).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"b.png: has shape \(1, 5, 2\), but a.png has \(1, 2, 5\)"):
        load_images(tmp_path)
    Image.fromarray(np.zeros((2, 5, 4), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="without transparency"):
        load_images(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="not a readable PNG"):
        load_images(tmp_path)


def test_what_is_missing_or_unknown(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        load_images(tmp_path / "missing.npy")
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="not a format that images are read from"):
        load_images(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="no such file"):
        load_labels(tmp_path / "missing.npy")
    np.save(tmp_path / "labels.npy", np.zeros(3))
    with pytest.raises(InputError, match="labels must be integers"):
        load_labels(tmp_path / "labels.npy")


def test_label_count_must_match(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=PIXELS, labels=np.zeros(2, int))
    with pytest.raises(InputError, match="2 labels for 3 images"):
        load_images(tmp_path / "a.npz")
    np.save(tmp_path / "a.npy", PIXELS)
    with pytest.raises(InputError, match="1 labels for 3 images"):
        check_lengths("labels.npy", load_images(tmp_path / "a.npy"), np.zeros(1, np.int64))
