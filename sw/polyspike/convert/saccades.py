"""Events simulated from still images: what a DVS sensor would see while an image moves in front of it.

N-MNIST was recorded so (Orchard et al., 2015): a sensor made three small movements, *saccades*, along the sides of a
triangle, 100 ms each, in front of every image. Here the movement, the image on the sensor and the pixels are computed:

- The image lies in the middle of the sensor, zeros around it, and is moved by fractions of a pixel (bilinear).
- A pixel compares the logarithm of its intensity with the one at its last event. Each time they differ by more than its
  threshold it emits an event, ON for brighter and OFF for darker.
- Thresholds differ a little from pixel to pixel, as those of a sensor do, and a few events of each recording are noise.

The images are real, the events are not: results on them say little about results on a sensor's recordings.
"""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from polyspike.spec import InputError

from .events import EVENT, Events

#: Where the image is, (y, x) in pixels from the middle, at the corners that the saccades go through.
CORNERS = ((-1.5, -2.0), (1.5, 0.0), (-1.5, 2.0), (-1.5, -2.0))

#: More than the image moves, along either axis.
_REACH = 3

#: What black adds to the intensity of a pixel, which is otherwise 0..1: no sensor sees less light than that.
DARK = 0.1


@dataclasses.dataclass(frozen=True)
class Saccades:
    """How events are simulated.

    Attributes
    ----------
    margin
        Pixels of the sensor on each side of the image; 3 makes images of 28 x 28 fit a sensor of 34 x 34.
    steps
        Positions that the image takes along each saccade.
    step_us
        Microseconds from one position to the next.
    threshold
        Change of the natural logarithm of intensity that makes an event.
    mismatch
        Standard deviation of the thresholds, relative to `threshold`.
    noise
        Mean number of noise events in a recording.
    seed
        Of the thresholds of the sensor's pixels, and of the noise.
    """

    margin: int = 3
    steps: int = 8
    step_us: int = 12_500
    threshold: float = 0.3
    mismatch: float = 0.05
    noise: float = 50.0
    seed: int = 0

    @property
    def total_steps(self) -> int:
        """Positions of a whole recording."""
        return self.steps * (len(CORNERS) - 1)

    @property
    def duration(self) -> int:
        """Microseconds of a whole recording."""
        return self.total_steps * self.step_us

    def record(self, image: NDArray[np.uint8], index: int = 0) -> Events:
        """Return the events of one image, uint8 [height, width]; `index` is its number, which chooses the noise."""
        fired = np.concatenate(list(self._steps(image[None], index)))
        parts = []
        for step, change in enumerate(fired):
            y, x = np.nonzero(change)
            count = np.abs(change[y, x]).astype(np.int64)
            # A pixel's events of one step are evenly spread over it.
            at = np.repeat(np.arange(len(count)), count)
            place = np.arange(len(at)) - np.repeat(np.cumsum(count) - count, count)
            events = np.zeros(len(at), EVENT)
            events["t"] = step * self.step_us + (2 * place + 1) * self.step_us // (2 * count[at])
            events["y"], events["x"], events["on"] = y[at], x[at], change[y, x][at] > 0
            parts.append(events[np.argsort(events["t"], kind="stable")])
        return Events(np.concatenate(parts), (fired.shape[1], fired.shape[2]))

    def counts(
        self, images: NDArray[np.uint8], bins: int, *, first: int = 0, progress: bool = False
    ) -> NDArray[np.uint8]:
        """Return the events of many images in bins.

        Parameters
        ----------
        images
            uint8, [number, height, width] or [number, 1, height, width].
        bins
            Bins of equal length; must divide the positions of a recording.
        first
            Number of the first image.
        progress
            Show a progress bar.

        Returns
        -------
        uint8, [number, bins, 2, height + 2 * margin, width + 2 * margin], OFF before ON: what `bin_events` makes of
        `record` for every image

        Raises
        ------
        InputError
            The images have another shape or type, or there is no such number of bins.
        """
        images = np.asarray(images)
        if images.ndim == 4 and images.shape[1] == 1:
            images = images[:, 0]
        if images.dtype != np.uint8 or images.ndim != 3:
            raise InputError(f"images are {images.dtype} {images.shape}, but must be uint8 [number, height, width]")
        if bins < 1 or self.total_steps % bins:
            raise InputError(f"{bins} bins do not divide the {self.total_steps} positions of a recording")
        height, width = (size + 2 * self.margin for size in images.shape[1:])
        counts = np.zeros((len(images), bins, 2, height, width), np.uint8)
        chunk = 500
        with tqdm(total=len(images), desc="events", unit="image", disable=not progress) as bar:
            for at in range(0, len(images), chunk):
                part = counts[at : at + chunk]
                for step, change in enumerate(self._steps(images[at : at + chunk], first + at)):
                    into = part[:, step * bins // self.total_steps]
                    into[:, 0] += np.maximum(-change, 0).astype(np.uint8)
                    into[:, 1] += np.maximum(change, 0).astype(np.uint8)
                bar.update(len(part))
        return counts

    def _steps(self, images: NDArray[np.uint8], first: int) -> Iterator[NDArray[np.int8]]:
        """Yield the events of each pixel from one position to the next, negative for OFF, int8 [number, y, x]."""
        around = self.margin + _REACH
        pixels = np.pad(images, ((0, 0), (around, around), (around, around))).astype(np.float32) / np.float32(255)
        positions = np.concatenate(
            [np.linspace(start, stop, self.steps, endpoint=False) for start, stop in itertools.pairwise(CORNERS)]
            + [np.array(CORNERS[-1:])]
        )
        last = np.log(_moved(pixels, positions[0]) + DARK)
        threshold, noise = self._thresholds(last.shape[1:]), self._noise(len(images), first, last.shape[1:])
        for step, position in enumerate(positions[1:]):
            change = np.trunc((np.log(_moved(pixels, position) + DARK) - last) / threshold)
            last += change * threshold
            yield change.astype(np.int8) + noise[step]

    def _thresholds(self, size: tuple[int, ...]) -> NDArray[np.float32]:
        """Return every pixel's threshold, [y, x]."""
        random = np.random.default_rng(self.seed)
        return (self.threshold * random.normal(1, self.mismatch, size).clip(0.5, 1.5)).astype(np.float32)

    def _noise(self, number: int, first: int, size: tuple[int, ...]) -> NDArray[np.int8]:
        """Return the noise of some recordings, [step, number, y, x]; it depends on each one's number alone."""
        noise = np.zeros((self.total_steps, number, *size), np.int8)
        for image in range(number):
            random = np.random.default_rng((self.seed, first + image))
            count = random.poisson(self.noise)
            step, y, x = (random.integers(0, limit, count) for limit in (self.total_steps, *size))
            np.add.at(noise[:, image], (step, y, x), 2 * random.integers(0, 2, count, dtype=np.int8) - 1)
        return noise


def _moved(pixels: NDArray[np.float32], position: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return images [number, y, x], moved by `position` (y, x), without `_REACH` pixels at each edge; bilinear."""
    height, width = (size - 2 * _REACH for size in pixels.shape[1:])
    (y, x), (fy, fx) = (np.floor(_REACH - position).astype(int), (_REACH - position) % 1)
    rows = pixels[:, y : y + height + 1]
    rows = (1 - fy) * rows[:, :-1] + fy * rows[:, 1:]
    columns = rows[:, :, x : x + width + 1]
    moved: NDArray[np.float32] = (1 - fx) * columns[:, :, :-1] + fx * columns[:, :, 1:]
    return moved.astype(np.float32)
