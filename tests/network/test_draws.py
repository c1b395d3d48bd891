"""The numbers of a probabilistic layer against a register that steps."""

import numpy as np
import pytest

from golden.naive import drawn
from polyspike.network import draws
from polyspike.spec.lfsr import TAPS, Lfsr


@pytest.mark.parametrize("lfsr", [Lfsr(TAPS, 1), Lfsr(TAPS, 0xFFFFFFFF), Lfsr(0xB400, 0xACE1), Lfsr(0xE10000, 77)])
def test_order_is_position_timestep_channel(lfsr: Lfsr) -> None:
    numbers = draws(lfsr, (5, 7, 6), 3)
    assert numbers.dtype == np.uint16
    wanted = iter(drawn(lfsr, 5 * 7 * 6 * 3))
    for y, x, t, channel in np.ndindex(7, 6, 3, 5):
        assert numbers[t, channel, y, x] == next(wanted)


def test_numbers_are_spread_evenly() -> None:
    numbers = draws(Lfsr(TAPS, 123), (16, 16, 16), 4)
    counts = np.bincount(numbers.ravel() >> 12, minlength=16)
    expected = numbers.size / 16
    assert ((counts - expected) ** 2 / expected).sum() < 37.7  # chi squared, 15 degrees of freedom, 0.1 %
