"""Rates of a UART: the divisor is the clock cycles of a bit, so only rates that divide the clock are exact.

Rounding the divisor is what makes a rate wrong. A receiver finds the start of a byte anew and samples the stop bit 9.5
bits later, so the two ends may differ by 4 % together; each end stays within `TOLERANCE`.
"""

from .errors import ConfigurationError

#: Width of a divisor.
DIVISOR_BITS = 16

#: Least divisor at which the receiver still finds the middle of every bit.
LEAST_DIVISOR = 4

#: Largest relative error of a rate that either end may have.
TOLERANCE = 0.02

#: Bits of a byte on the line: start, data, stop.
FRAME_BITS = 10

#: The rate, in baud, at which a board starts, and to which it falls back.
BASE_BAUD = 115_200


def rate_error(clock_hz: int, baud: int) -> float:
    """Return by how much the nearest rate is off, relative to `baud`."""
    return abs(clock_hz / max(1, round(clock_hz / baud)) / baud - 1)


def divisor(clock_hz: int, baud: int) -> int:
    """Return the clock cycles of a bit, rounded.

    Raises
    ------
    ConfigurationError
        The clock is too slow or too fast for the rate, or no divisor comes within `TOLERANCE` of it.
    """
    cycles = round(clock_hz / baud)
    if not LEAST_DIVISOR <= cycles < 1 << DIVISOR_BITS:
        raise ConfigurationError(
            f"{baud} baud from a clock of {clock_hz} Hz takes {clock_hz / baud:.1f} cycles a bit, but it must be from "
            f"{LEAST_DIVISOR} to {(1 << DIVISOR_BITS) - 1}; choose another rate"
        )
    if rate_error(clock_hz, baud) > TOLERANCE:
        raise ConfigurationError(
            f"{baud} baud from a clock of {clock_hz} Hz would be {rate_error(clock_hz, baud):.1%} off "
            f"({cycles} cycles a bit), but at most {TOLERANCE:.0%} works; choose a rate nearer to {clock_hz // cycles}"
        )
    return cycles
