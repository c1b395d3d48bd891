"""Events in bins, against counting them one by one; simulated events, against what a moving edge has to do."""

import numpy as np
import pytest

from polyspike.convert.events import EVENT, Events, bin_events
from polyspike.convert.saccades import CORNERS, Saccades
from polyspike.spec import InputError


def events(number=3000, height=12, width=9, seed=0, latest=100_003):
    random = np.random.default_rng(seed)
    made = np.zeros(number, EVENT)
    made["t"] = np.sort(random.integers(17, latest, number))
    made["x"], made["y"] = random.integers(0, width, number), random.integers(0, height, number)
    made["on"] = random.random(number) < 0.3
    return Events(made, (height, width))


def naive(recording, bins, size, span):
    counts = np.zeros((bins, 2, *size), int)
    for t, x, y, on in recording.events.tolist():
        for bin_ in range(bins):
            # Compared as whole numbers: the bin's ends are fractions of microseconds.
            if bin_ * (span[1] - span[0]) <= (t - span[0]) * bins < (bin_ + 1) * (span[1] - span[0]):
                row, column = y * size[0] // recording.size[0], x * size[1] // recording.size[1]
                counts[bin_, int(on), row, column] += 1
    return np.minimum(counts, 255)


@pytest.mark.parametrize("bins", [1, 3, 7])
@pytest.mark.parametrize("size", [(12, 9), (6, 3), (5, 4), (1, 1)])
def test_bins_against_a_naive_loop(bins, size):
    recording = events()
    span = int(recording.events["t"][0]), int(recording.events["t"][-1]) + 1
    counts = bin_events(recording, bins, size)
    assert counts.dtype == np.uint8
    assert np.array_equal(counts, naive(recording, bins, size, span))
    assert counts.sum() == len(recording) or counts.max() == 255
    some = (20_000, 70_001)
    assert np.array_equal(bin_events(recording, bins, size, some), naive(recording, bins, size, some))


def test_polarity_is_the_channel():
    one = Events(np.array([(5, 2, 1, True), (6, 0, 0, False)], EVENT), (2, 3))
    counts = bin_events(one, 1)
    assert counts.shape == (1, 2, 2, 3)
    assert np.argwhere(counts).tolist() == [[0, 0, 0, 0], [0, 1, 1, 2]]


def test_what_cannot_be_binned_is_refused():
    recording = events()
    sizeless = Events(recording.events, None)
    assert np.array_equal(bin_events(sizeless, 2, (12, 9)), bin_events(recording, 2))
    for wrong, arguments, message in (
        (sizeless, (2,), "does not say how large its sensor is"),
        (Events(recording.events[:0], (3, 3)), (2,), "has no events"),
        (recording, (0,), "must be at least 1"),
        (recording, (2, (0, 4)), "must be at least 1"),
        (recording, (2, None, (5, 5)), "holds nothing"),
        (sizeless, (2, (12, 4)), "the sensor has 12 x 4 pixels"),
    ):
        with pytest.raises(InputError, match=message):
            bin_events(wrong, *arguments)


# Simulated events

QUIET = Saccades(mismatch=0, noise=0)


def images(number=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (number, 10, 8)).astype(np.uint8)


def test_recordings_and_counts_are_the_same_events():
    saccades = Saccades(noise=20)
    batch = images()
    for bins in (1, 4, 6, 24):
        counts = saccades.counts(batch, bins, first=5)
        assert counts.shape == (3, bins, 2, 16, 14)
        for index, image in enumerate(batch):
            recording = saccades.record(image, 5 + index)
            assert (np.diff(recording.events["t"].astype(np.int64)) >= 0).all()
            assert np.array_equal(bin_events(recording, bins, span=(0, saccades.duration)), counts[index])


def test_simulation_is_deterministic_and_each_recording_has_its_noise():
    saccades = Saccades()
    batch = images(4)
    counts = saccades.counts(batch, 6)
    assert np.array_equal(counts, saccades.counts(batch, 6))
    assert np.array_equal(counts[2:], saccades.counts(batch[2:], 6, first=2))
    assert not np.array_equal(counts[2:], saccades.counts(batch[2:], 6))
    assert not np.array_equal(counts, Saccades(seed=1).counts(batch, 6))


def test_an_edge_fires_where_it_passes_with_the_polarity_of_its_direction():
    """A bright half to the right moves right in the first two saccades, and left in the third."""
    assert CORNERS[0][1] < CORNERS[1][1] < CORNERS[2][1] > CORNERS[3][1]
    image = np.zeros((20, 20), np.uint8)
    image[:, 10:] = 255
    counts = QUIET.counts(image[None], 3)[0].astype(int)
    # Rows that the image's upper and lower end do not reach, and columns that its right end does not.
    inside = counts[:, :, 6:20, :20]
    columns = [np.flatnonzero(inside[bin_, polarity].any(0)).tolist() for bin_ in range(3) for polarity in (0, 1)]
    # The edge is left of column 13 when the image is in the middle.
    assert columns == [[11, 12], [], [13, 14], [], [], [11, 12, 13, 14]]
    # Where the edge has passed altogether, the intensity has changed by a factor of 11.
    whole = int(np.log(11) / QUIET.threshold)
    assert inside[:2, 0].sum(0)[:, 11:15].min() >= whole - 1
    assert inside.max() <= whole + 1
    # Back where it began, a pixel has seen as much brightening as darkening, but for less than a threshold.
    assert np.abs(counts[:, 1].sum(0) - counts[:, 0].sum(0)).max() <= 1


def test_an_event_is_a_change_by_the_threshold():
    """The sum of a pixel's events follows the logarithm of its intensity."""
    image = images(1)[0]
    change = QUIET.counts(image[None], 3)[0].astype(int)
    seen = np.cumsum(change[:, 1] - change[:, 0], 0)
    # At corners the image is moved by whole and half pixels.
    padded = np.pad(image.astype(float) / 255, 8)

    def moved(y, x):
        rows = [np.roll(padded, round(y + half), 0) for half in (-0.5, 0.5)]
        return np.log(np.roll(sum(rows) / 2, round(x), 1)[5:-5, 5:-5] + 0.1)

    start = moved(*CORNERS[0])
    for bin_, corner in enumerate(CORNERS[1:]):
        assert np.abs(seen[bin_] * QUIET.threshold - (moved(*corner) - start)).max() < QUIET.threshold * 1.01


def test_noise_and_mismatch():
    dark = np.zeros((200, 10, 8), np.uint8)
    assert QUIET.counts(dark[:2], 6).sum() == 0
    noisy = Saccades(noise=30).counts(dark, 6)
    assert noisy.sum((1, 2, 3, 4)).mean() == pytest.approx(30, rel=0.1)
    assert noisy.any(0).mean() > 0.8
    batch = images()
    assert not np.array_equal(QUIET.counts(batch, 6), Saccades(noise=0).counts(batch, 6))


def test_wrong_images_and_bins_are_refused():
    for wrong in (np.zeros((3, 3), np.uint8), np.zeros((1, 3, 8, 8), np.uint8), np.zeros((1, 8, 8), np.float32)):
        with pytest.raises(InputError, match=r"must be uint8 \[number, height, width\]"):
            Saccades().counts(wrong, 6)
    with pytest.raises(InputError, match="5 bins do not divide the 24 positions"):
        Saccades().counts(images(), 5)
