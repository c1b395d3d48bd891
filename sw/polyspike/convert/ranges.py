"""Choosing a layer's range: the largest activation `lambda = d * n_pos` its counts can express.

A small range clips, a large one has a coarse step d. The four methods see the layer's sums over calibration images,
the last two of them a histogram:

`max`         the largest activation: nothing is clipped.
`percentile`  a percentile of the activations above zero.
`mse`         least mean squared error between an activation and its quantized value.
`entropy`     most information passed on to the next layer, see `entropy.py`. A large step loses it by its error and
              because few counts are in use, a small one by what is clipped and because many values share the last
              count.

In a rectified layer only activations above zero are counted: zero is expressed without error whatever the range. At T
timesteps a neuron emits T n_pos spikes at most, so there the step that matters is d / T.
"""

import numpy as np
from numpy.typing import NDArray

from polyspike.network import CountRange

from .entropy import Histogram
from .options import Method

#: Ranges that are tried, in shares of the largest one that is of use.
CANDIDATES = np.concatenate([np.geomspace(0.02, 0.2, 24, endpoint=False), np.linspace(0.2, 1.0, 65)])


def levels(counts: CountRange, rectified: bool, timesteps: int = 1) -> tuple[int, int]:
    """Return the least and the largest sum of counts over all timesteps, as ranges see them."""
    return (0 if rectified else -counts.n_neg * timesteps), counts.n_pos * timesteps


def counted(values: NDArray[np.float32], rectified: bool) -> NDArray[np.float32]:
    """Return the activations that a range is chosen by, [values]."""
    values = values.ravel()
    return values[values > 0] if rectified else values


def largest_range(values: NDArray[np.float32], counts: CountRange, rectified: bool) -> float:
    """Return the range that clips nothing; 0 when all that is counted is 0."""
    return float(_demand(values, counts, rectified).max(initial=0.0))


def _demand(values: NDArray[np.float32], counts: CountRange, rectified: bool) -> NDArray[np.float32]:
    """Return what range every value above or below zero needs."""
    values = counted(values, rectified)
    # One axis for both polarities: what a negative value needs of the positive range.
    ratio = counts.n_pos / counts.n_neg if counts.n_neg and not rectified else 1.0
    demand = np.where(values < 0, -values * ratio, values)
    return demand[demand > 0]


def choose_range(
    values: NDArray[np.float32],
    counts: CountRange,
    *,
    rectified: bool,
    timesteps: int = 1,
    method: Method = Method.ENTROPY,
    percentile: float = 99.9,
) -> float:
    """Return the range for a sample of a layer's sums (any shape), always above zero."""
    demand = _demand(values, counts, rectified)
    if demand.size == 0:
        return 1.0
    largest = float(demand.max())
    if method is Method.MAX:
        return largest
    if method is Method.PERCENTILE:
        return float(np.percentile(demand, percentile))
    histogram = Histogram.of(counted(values, rectified))
    least, most = levels(counts, rectified, timesteps)
    tried = [histogram.quantized(share * largest / most, least, most) for share in CANDIDATES]
    losses = [each.error if method is Method.MSE else -each.information for each in tried]
    return float(CANDIDATES[int(np.argmin(losses))] * largest)
