"""Entropies of activations and of spike counts, in bits, and what of a layer's information passes to the next one.

A layer turns activations x into counts s, each worth a step d. Four quantities describe what that keeps:

entropy before
    H(x) = -sum p log2 p over `BINS` bins of equal width w, over all values that occur. It depends on w; the
    differential entropy h(x) = H(x) + log2 w does not, but on the unit of x.
entropy after
    H(s) = -sum p log2 p over the counts. s follows from x, so H(x) - H(s) is never negative, and is the information
    lost at the resolution w.
error power
    E[e^2] of e = x - d s.
information passed
    I(d) = I(s; s + e'), what can be told about s behind a Gaussian disturbance e' with the power of the error, see
    `information`. H(s) alone would not do to choose a step by: it says nothing of how far off clipped values are.

PMSM (arXiv 2508.14520) compares the entropy of the activations before a layer with that of its discrete outputs; these
definitions are our own derivation from that aim.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Of a histogram of activations.
BINS = 2048

#: Disturbance, in steps, below which no two counts can be confused: half a step is ten standard deviations.
_DISTINCT = 0.05


def entropy(shares: Array) -> float:
    """Return the entropy in bits of probabilities, any shape; zeros do not matter."""
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())


@dataclasses.dataclass(frozen=True, eq=False)
class Histogram:
    """Values in bins of equal width: their centers, float64 [bins], their probabilities, [bins], and the width.

    Bins without values are left out.
    """

    centers: Array
    shares: Array
    width: float

    @staticmethod
    def of(values: NDArray[np.floating]) -> "Histogram":
        """Return the histogram of values (any shape, at least one): `BINS` bins from the least or 0 to the largest."""
        low, high = min(float(values.min()), 0.0), max(float(values.max()), 1e-12)
        mass, edges = np.histogram(values, BINS, (low, high))
        used = mass > 0
        return Histogram(((edges[:-1] + edges[1:]) / 2)[used], mass[used] / mass.sum(), float(edges[1] - edges[0]))

    @property
    def entropy(self) -> float:
        """Entropy before a layer's quantizer, bits."""
        return entropy(self.shares)

    def rectified(self) -> "Histogram":
        """Return the histogram behind a ReLU: all that is below zero is in one bin at zero."""
        above = self.centers > 0
        centers = np.append(0.0, self.centers[above])
        return Histogram(centers, np.append(self.shares[~above].sum(), self.shares[above]), self.width)

    def quantized(self, step: float, least: int, most: int) -> "Quantized":
        """Return what becomes of the values with counts `least`..`most` (`least` is not above 0), worth `step` each."""
        counts = np.clip(np.floor(self.centers / step + 0.5), least, most)
        # Within a bin the values are spread evenly.
        square = (self.centers - step * counts) ** 2 + self.width**2 / 12
        shares = np.bincount((counts - least).astype(np.int64), self.shares, most - least + 1).astype(np.float64)
        return Quantized(step, shares, float((self.shares * square).sum()))


@dataclasses.dataclass(frozen=True, eq=False)
class Quantized:
    """Counts, each worth `step`: the probability of each count, float64 [counts], and the power of the error."""

    step: float
    shares: Array
    error: float

    @property
    def entropy(self) -> float:
        """Entropy after the quantizer, bits."""
        return entropy(self.shares)

    @property
    def information(self) -> float:
        """Information passed, bits."""
        return information(self.shares, self.error**0.5 / self.step)


def information(shares: Array, disturbance: float) -> float:
    """Return the information in bits that passes from counts s to s + e', e' normal with a standard deviation.

    The next layer adds up many counts with weights. What disturbs its sums are as many errors, which together are
    Gaussian by the central limit theorem, and have the power E[e^2] a count. So I(d) is what passes through a Gaussian
    channel,

        I(d) = h(s + e') - h(e'),   h(e') = 1/2 log2(2 pi e E[e^2] / d^2)

    with h(s + e') of a mixture of normal distributions, one a count, computed by convolution. It never exceeds H(s). A
    large step loses by its error and because few counts are in use, a small one by the error of what is clipped and
    because many values share the last count.

    The mixture must be computed. Where the disturbance is about as wide as a step, it is nearly flat between its
    counts, and h(s + e') nearly H(s). But with few counts most activations may round to zero, with an error far
    smaller than a step; then H(s) - h(e') exceeds H(s), grows with the step without bound, and would always choose
    the largest one.

    Parameters
    ----------
    shares
        The probability of each count, [counts], in their order.
    disturbance
        Standard deviation, in steps.
    """
    if disturbance < _DISTINCT:
        return entropy(shares)
    # Half a standard deviation between points is fine enough for sums of normal densities to be their integrals.
    fine = int(np.ceil(2 / disturbance))
    reach = int(np.ceil(6 * disturbance * fine))
    normal = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (disturbance * fine)) ** 2)
    normal /= normal.sum()
    comb = np.zeros((len(shares) - 1) * fine + 1)
    comb[::fine] = shares
    size = 1 << (len(comb) + len(normal) - 2).bit_length()
    mixture = np.fft.irfft(np.fft.rfft(comb, size) * np.fft.rfft(normal, size), size)
    return entropy(mixture) - entropy(normal)
