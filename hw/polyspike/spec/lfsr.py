"""The shift register that probabilistic neurons draw their numbers from: a Galois LFSR of up to 32 bits.

A step gives out the state's lowest bit and shifts to the right; where that bit was 1, `taps` are added (exclusive or).
The highest tap says how wide the register is. A number is drawn by `DRAW_BITS` steps: the bits that they give out,
the first one lowest.

Steps are linear, so many of them are one multiplication: bit 31 - k of a *jump* says whether the state after k steps
belongs to the sum that is the state after the jump. (A field of 2^width elements, if the taps are a primitive
polynomial's; see e.g. Xilinx XAPP 052 for some.)
"""

import dataclasses
from typing import Any

#: Bits of the widest register, and of every jump.
WIDTH = 32

#: Bits of a drawn number, and steps that it takes.
DRAW_BITS = 16

#: Taps of x^32 + x^22 + x^2 + x + 1, with which a register goes through all 2^32 - 1 states but 0.
TAPS = 0x80200003


@dataclasses.dataclass(frozen=True)
class Lfsr:
    """A register's taps, and its state before the first draw."""

    taps: int
    seed: int

    @property
    def width(self) -> int:
        """Bits of the register."""
        return self.taps.bit_length()


def step(state: Any, taps: int) -> Any:
    """Return the state after a step; what the step gives out is the lowest bit of `state`.

    A state is an integer, or an array of integers: states that go on together.
    """
    return state >> 1 ^ (state & 1) * taps


def advance(state: Any, jump: int, taps: int) -> Any:
    """Return the state after a jump. The sum is worked out as hardware does, from the farthest state on."""
    total = state ^ state
    for bit in range(WIDTH):
        total = step(total, taps) ^ state * (jump >> bit & 1)
    return total


def jump_over(draws: int, taps: int) -> int:
    """Return the jump over so many draws."""
    spare = WIDTH - taps.bit_length()
    # States stand for polynomials: the highest bit for 1, and a step multiplies by x. Jumps are states at the top.
    result: int = 1 << (taps.bit_length() - 1)
    power, exponent = step(result, taps), DRAW_BITS * draws
    while exponent:
        if exponent & 1:
            result = advance(result, power << spare, taps)
        power = advance(power, power << spare, taps)
        exponent >>= 1
    return result << spare
