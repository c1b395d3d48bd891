"""The register of random numbers: jumps against steps, steps against a loop over bits, and its period."""

import random

import numpy as np
import pytest

from polyspike.spec.lfsr import DRAW_BITS, TAPS, Lfsr, advance, jump_over, step

#: Taps of registers of 32, 16 and 24 bits.
SOME_TAPS = (TAPS, 0xB400, 0xE10000)


def by_bits(state: list[int], taps: int) -> list[int]:
    """A step of a register whose bits are a list, lowest first."""
    out, shifted = state[0], [*state[1:], 0]
    return [bit ^ (out & taps >> place & 1) for place, bit in enumerate(shifted)]


@pytest.mark.parametrize("taps", SOME_TAPS)
def test_a_step_moves_every_bit(taps: int) -> None:
    width = taps.bit_length()
    state = random.Random(taps).randrange(1, 1 << width)
    bits = [state >> place & 1 for place in range(width)]
    for _ in range(200):
        state, bits = step(state, taps), by_bits(bits, taps)
        assert state == sum(bit << place for place, bit in enumerate(bits))


@pytest.mark.parametrize("taps", SOME_TAPS)
def test_a_jump_is_as_many_steps(taps: int) -> None:
    generator = random.Random(taps)
    state = start = generator.randrange(1, 1 << taps.bit_length())
    for draws in range(200):
        assert advance(start, jump_over(draws, taps), taps) == state
        for _ in range(DRAW_BITS):
            state = step(state, taps)
    # Far away, where nobody steps: one jump after the other is the jump over both.
    for _ in range(20):
        near, far = (generator.randrange(1 << 40) for _ in range(2))
        there = advance(advance(start, jump_over(near, taps), taps), jump_over(far, taps), taps)
        assert there == advance(start, jump_over(near + far, taps), taps)


def test_states_go_on_together() -> None:
    states = np.array([1, 0x80000000, 12345, 0xFFFFFFFF])
    jump = jump_over(77, TAPS)
    assert advance(states, jump, TAPS).tolist() == [advance(int(state), jump, TAPS) for state in states]


def test_the_usual_register_goes_through_all_states() -> None:
    """Its period divides 2^32 - 1, and none of that number's largest divisors."""
    period = (1 << Lfsr(TAPS, 1).width) - 1
    # A jump over draws is one of 16 times as many steps, and 16 has no factor in common with the period.
    assert advance(1, jump_over(period, TAPS), TAPS) == 1
    for prime in (3, 5, 17, 257, 65537):
        assert period % prime == 0
        assert advance(1, jump_over(period // prime, TAPS), TAPS) != 1
