"""The numbers that probabilistic neurons draw, all of a layer at once."""

import functools

import numpy as np
from numpy.typing import NDArray

from polyspike.spec.lfsr import DRAW_BITS, Lfsr

from .graph import Shape


@functools.lru_cache(maxsize=64)
def draws(lfsr: Lfsr, shape: Shape, timesteps: int) -> NDArray[np.uint16]:
    """Return the numbers of a probabilistic layer of `shape`, uint16 [timesteps, *shape], read-only."""
    channels, height, width = shape
    numbers = drawn(lfsr, height * width * timesteps * channels)
    # They are the same for every batch, and the same array is handed out.
    numbers.setflags(write=False)
    return numbers.reshape(height, width, timesteps, channels).transpose(2, 3, 0, 1)


def drawn(lfsr: Lfsr, number: int) -> NDArray[np.uint16]:
    """Return the first numbers that a register draws, uint16 [number]."""
    # A bit that it gives out is the sum (exclusive or) of earlier ones; how much earlier, the places of the taps say,
    # counted from 1. Squares of sums are sums of squares here, so the same holds twice, four times, ... as far apart:
    # the more bits are known, the more follow at once.
    width, count = lfsr.width, number * DRAW_BITS
    bits = np.zeros(count + 2 * width, bool)
    state = lfsr.seed
    for index in range(2 * width):
        bits[index] = state & 1
        state = state >> 1 ^ (lfsr.taps if state & 1 else 0)
    distances = np.array([place + 1 for place in range(width) if lfsr.taps >> place & 1])
    known, scale = 2 * width, 1
    while known < count:
        while 2 * scale * width <= known:
            scale *= 2
        more = min(int(distances.min()) * scale, len(bits) - known)
        for distance in distances * scale:
            bits[known : known + more] ^= bits[known - distance : known - distance + more]
        known += more
    return np.packbits(bits[:count], bitorder="little").view("<u2").astype(np.uint16)
