r"""Choosing a layer's range: the largest activation `lambda = d * n_pos` its counts can express.

A small range clips, a large one has a coarse step d. The four methods see a histogram of the layer's sums over
calibration images:

`max`         the largest activation: nothing is clipped.
`percentile`  a percentile of the activations above zero.
`mse`         least mean squared error between an activation and its quantized value.
`entropy`     most information in the discrete outputs. PMSM (arXiv 2508.14520) initializes its quantizers from
entropies, that of the
              activations before the layer and that of its discrete outputs; the criterion here is our own derivation
              from that aim. Codes s with entropy H(s), d apart, carry the differential entropy H(s) + log d (that of
              d s spread evenly over a step): as much as the activations had, less what clipping lost. The next layer
              adds up many such values, so what disturbs it is Gaussian with the power E[e^2] of the error e = x - d
              s. By Shannon's entropy power bound the information that passes is at least

                  I(d) = H(s) + log d - 1/2 log(2 pi e E[e^2])

              and the method takes the d with the largest I(d). A large step loses by its error, a small one twice: by
              its error and because the entropy of the outputs falls when many of them share the last code.

In a rectified layer only activations above zero are counted: zero is expressed without error whatever the range. At T
timesteps a neuron emits T n_pos spikes at most, so there the step that matters is d / T.
"""

import numpy as np
from numpy.typing import NDArray

from polyspike.network import CountRange

from .options import Method

Array = NDArray[np.float64]

_BINS = 2048
_CANDIDATES = np.concatenate([np.geomspace(0.02, 0.2, 24, endpoint=False), np.linspace(0.2, 1.0, 65)])


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
    values = values.ravel()
    # One axis for both polarities: what a negative value needs of the positive range.
    ratio = counts.n_pos / counts.n_neg if counts.n_neg and not rectified else 1.0
    demand = np.maximum(values, 0) if rectified else np.where(values < 0, -values * ratio, values)
    demand = demand[demand > 0]
    if demand.size == 0:
        return 1.0
    largest = float(demand.max())
    if method is Method.MAX:
        return largest
    if method is Method.PERCENTILE:
        return float(np.percentile(demand, percentile))
    low = 0.0 if rectified else float(min(values.min(), 0.0))
    kept = values[values > 0] if rectified else values
    mass, edges = np.histogram(kept, _BINS, (low, max(float(kept.max()), 1e-12)))
    centers = (edges[:-1] + edges[1:]) / 2
    width = float(edges[1] - edges[0])
    used = mass > 0
    p, x = mass[used] / mass.sum(), centers[used]
    levels = counts.n_pos * timesteps
    floor = 0 if rectified else counts.n_neg * timesteps
    losses = [_loss(method, p, x, width, share * largest / levels, floor, levels) for share in _CANDIDATES]
    return float(_CANDIDATES[int(np.argmin(losses))] * largest)


def _loss(method: Method, p: Array, x: Array, width: float, step: float, floor: int, levels: int) -> float:
    code = np.clip(np.floor(x / step + 0.5), -floor, levels)
    # Within a bin of the histogram the values are spread evenly.
    square = (x - step * code) ** 2 + width**2 / 12
    if method is Method.MSE:
        return float((p * square).sum())
    share = np.bincount((code + floor).astype(np.int64), p)
    share = share[share > 0]
    entropy = float(-(share * np.log(share)).sum())
    return -(entropy + float(np.log(step)) - 0.5 * float(np.log((p * square).sum())))
