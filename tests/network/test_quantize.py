"""Images to input counts, against plain arithmetic on each pixel."""

import dataclasses

import numpy as np
import pytest

from polyspike.network import CountRange, Input, quantize
from polyspike.spec import InputError

SIGNED = CountRange(128, 127, 8)


def an_input(image=(3, 4, 5), counts=SIGNED, shape=None, **changes) -> Input:
    channels = image[0]
    fields = {"scale": 0.013, "mean": (0.49, 0.2, 0.7)[:channels], "std": (0.25, 1.5, 0.1)[:channels], **changes}
    return Input("input", shape or image, counts, image=image, **fields)


def images(shape: tuple[int, ...]) -> np.ndarray:
    """All 256 values in some order, over and over."""
    rng = np.random.default_rng(0)
    return rng.permutation(np.arange(int(np.prod(shape))) % 256).astype(np.uint8).reshape(shape)


def naive(node: Input, batch: np.ndarray) -> np.ndarray:
    counts = np.zeros(batch.shape, int)
    for index in np.ndindex(batch.shape):
        channel = index[1]
        value = (int(batch[index]) / 255 - node.mean[channel]) / node.std[channel] / node.scale
        # Python rounds halves to the even neighbour.
        counts[index] = min(max(round(value), -node.counts.n_neg), node.counts.n_pos)
    return counts


@pytest.mark.parametrize(
    "node",
    [
        an_input(),
        an_input(counts=CountRange(8, 7, 4), scale=0.3),
        an_input(counts=CountRange(0, 15, 4), scale=1 / 15, mean=(0.0,) * 3, std=(1.0,) * 3),
        an_input(counts=CountRange(3, 200, 8), scale=0.004),
        # Every second pixel value is a half.
        an_input(counts=CountRange(0, 255, 8), scale=2 / 255, mean=(0.0,) * 3, std=(1.0,) * 3),
        an_input(image=(1, 6, 7)),
    ],
)
def test_counts_are_those_of_each_pixel(node: Input) -> None:
    batch = images((9, *node.image))
    counts = quantize(node, batch)
    assert counts.dtype == np.int16
    np.testing.assert_array_equal(counts, naive(node, batch))
    assert counts.min() >= -node.counts.n_neg
    assert counts.max() <= node.counts.n_pos


def test_by_hand() -> None:
    node = an_input((1, 1, 5), CountRange(2, 7, 4), mean=(0.2,), std=(0.5,), scale=0.2)
    # 0: -2; 51: 0; 102: 2; 153: 4; 255: 8, cut to 7
    batch = np.array([0, 51, 102, 153, 255], np.uint8).reshape(1, 1, 1, 5)
    assert quantize(node, batch).ravel().tolist() == [-2, 0, 2, 4, 7]


def test_flattened_inputs_keep_channels_first() -> None:
    node, flat = an_input(), an_input(shape=(60, 1, 1))
    batch = images((2, 3, 4, 5))
    counts = quantize(flat, batch)
    assert counts.shape == (2, 60, 1, 1)
    np.testing.assert_array_equal(counts.reshape(2, 60), naive(node, batch).reshape(2, 60))


def test_one_channel_may_be_left_out() -> None:
    node = an_input((1, 4, 5))
    batch = images((3, 1, 4, 5))
    np.testing.assert_array_equal(quantize(node, batch[:, 0]), quantize(node, batch))


def test_empty_batches_stay_empty() -> None:
    assert quantize(an_input(), np.zeros((0, 3, 4, 5), np.uint8)).shape == (0, 3, 4, 5)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, np.float32, np.float64, bool])
def test_other_types_are_refused(dtype: type) -> None:
    with pytest.raises(InputError, match=rf"images must be uint8 \(0\.\.255\), not {np.dtype(dtype)}"):
        quantize(an_input(), np.zeros((1, 3, 4, 5), dtype))


@pytest.mark.parametrize(
    "shape", [(1, 4, 4, 5), (1, 1, 4, 5), (1, 3, 5, 4), (3, 4, 5), (4, 5), (1, 1, 3, 4, 5), (1, 60, 1, 1), ()]
)
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as caught:
        quantize(an_input(), np.zeros(shape, np.uint8))
    assert str(caught.value) == f"images have shape {shape}, but the network takes [batch, 3, 4, 5]"


def test_events_are_clipped_counts() -> None:
    node = an_input((2, 3, 4), CountRange(0, 15, 4), scale=1.0, mean=(0.0,) * 2, std=(1.0,) * 2, bins=5)
    batch = images((6, 5, 2, 3, 4))
    counts = quantize(node, batch)
    assert counts.dtype == np.int16
    np.testing.assert_array_equal(counts, np.minimum(batch.astype(int), 15))
    flat = dataclasses.replace(node, shape=(24, 1, 1))
    np.testing.assert_array_equal(quantize(flat, batch), counts.reshape(6, 5, 24, 1, 1))
    grey = dataclasses.replace(node, shape=(1, 3, 4), image=(1, 3, 4), mean=(0.0,), std=(1.0,))
    np.testing.assert_array_equal(quantize(grey, batch[:, :, 0]), quantize(grey, batch[:, :, :1]))


def test_other_events_are_refused() -> None:
    node = an_input((2, 3, 4), CountRange(0, 15, 4), scale=1.0, mean=(0.0,) * 2, std=(1.0,) * 2, bins=5)
    for shape in ((1, 4, 2, 3, 4), (1, 5, 3, 3, 4), (5, 2, 3, 4), (1, 2, 3, 4), ()):
        with pytest.raises(InputError) as caught:
            quantize(node, np.zeros(shape, np.uint8))
        assert str(caught.value) == f"event counts have shape {shape}, but the network takes [batch, 5, 2, 3, 4]"
    with pytest.raises(InputError, match="event counts must be uint8"):
        quantize(node, np.zeros((1, 5, 2, 3, 4), np.float32))
