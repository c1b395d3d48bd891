"""Recordings of event cameras (DVS sensors): reading the common files, and counting events in time bins.

An event says that one pixel became brighter (ON) or darker (OFF) at some time. A network takes counts of events: a
recording is cut into as many bins as the network has timesteps, and each bin is a map with two channels.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from polyspike.spec import InputError

#: One event: time in microseconds, column, row, and whether the pixel became brighter.
EVENT = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("on", "?")])


@dataclasses.dataclass(frozen=True, eq=False)
class Events:
    """A recording: events of type `EVENT` in the order of the file, and the sensor's (height, width) in pixels.

    `size` is None where the file does not say it.
    """

    events: NDArray[np.void]
    size: tuple[int, int] | None

    def __len__(self) -> int:
        return len(self.events)


def bin_events(
    recording: Events,
    bins: int,
    size: tuple[int, int] | None = None,
    span: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """Count events in time bins.

    Parameters
    ----------
    recording
        The events.
    bins
        Bins of equal length.
    size
        (height, width) of the maps. Pixels of a larger sensor are put together, as evenly as they can be. Left out, the
        sensor's.
    span
        First microsecond of the first bin, and the one behind the last bin; events outside are left out. Left out,
        from the first event to the last.

    Returns
    -------
    uint8, [bins, 2, height, width]: OFF events, then ON events. Counts above 255 become 255.

    Raises
    ------
    InputError
        There are no events, the size of the sensor is not known, an event is outside of it, or the bins have no length.
    """
    events = recording.events
    sensor = recording.size if recording.size is not None else size
    if sensor is None:
        raise InputError("the recording does not say how large its sensor is; give the size of the maps")
    height, width = size = sensor if size is None else size
    if bins < 1 or min(size) < 1:
        raise InputError(f"{bins} bins of {height} x {width} pixels hold no events; all of these must be at least 1")
    if span is None:
        if len(events) == 0:
            raise InputError("the recording has no events")
        span = int(events["t"].min()), int(events["t"].max()) + 1
    if span[1] - span[0] < 1:
        raise InputError(f"the span from {span[0]} to {span[1]} microseconds holds nothing")
    outside = (events["y"] >= sensor[0]) | (events["x"] >= sensor[1])
    if outside.any():
        first = events[int(outside.argmax())]
        raise InputError(
            f"event {int(outside.argmax())} is in row {first['y']}, column {first['x']}, but the sensor has "
            f"{sensor[0]} x {sensor[1]} pixels"
        )
    events = events[(events["t"] >= span[0]) & (events["t"] < span[1])]
    bin_ = (events["t"] - np.uint64(span[0])).astype(np.int64) * bins // (span[1] - span[0])
    y, x = (events[axis].astype(np.int64) * size[i] // sensor[i] for i, axis in enumerate(("y", "x")))
    place = np.ravel_multi_index((bin_, events["on"].astype(np.int64), y, x), (bins, 2, height, width))
    counts = np.bincount(place, minlength=bins * 2 * height * width)
    return np.minimum(counts, 255).astype(np.uint8).reshape(bins, 2, height, width)
