"""Agreeing on a faster rate over a line whose two ends have a rate."""

import abc
import contextlib
import time
from collections.abc import Iterator

import numpy as np

from polyspike.spec import LinkError
from polyspike.spec.memory import Space
from polyspike.spec.registers import BY_NAME, REGISTERS
from polyspike.spec.uart import BASE_BAUD, DIVISOR_BITS, FRAME_BITS, LEAST_DIVISOR, TOLERANCE, rate_error

from .link import Link

#: Rates to try, in baud, the fastest first. Bridges do all or some of them.
RATES = (
    12_000_000,
    8_000_000,
    6_000_000,
    4_000_000,
    3_000_000,
    2_000_000,
    1_500_000,
    1_000_000,
    921_600,
    460_800,
    230_400,
)

#: How often all registers are read over a new rate before it is trusted.
CHECKS = 4

#: Calls of `RatedTransport.fall_back` in a row before a trusted rate is given up.
PATIENCE = 2


class RatedTransport(abc.ABC):
    """A transport over a line with a rate. See `Transport` for the methods that both have.

    Silence has many causes, so a rate that was trusted is kept for one repetition more.
    """

    def __init__(self, baud: int = BASE_BAUD) -> None:
        self._base = self._baud = baud
        self._trusted = True
        self._silences = 0

    @property
    def base(self) -> int:
        """The rate that the device falls back to, in baud."""
        return self._base

    @property
    def baud(self) -> int:
        """The present rate."""
        return self._baud

    @property
    def bytes_per_second(self) -> float:
        """What the line carries in each direction."""
        return self._baud / FRAME_BITS

    def supports(self, baud: int) -> bool:
        """Return whether this end can do a rate. The line must be quiet."""
        before = self._baud
        try:
            self._set_baud(baud)
        except ValueError:
            return False
        finally:
            self._set_baud(before)
        return True

    def change_rate(self, baud: int, *, trusted: bool = False) -> None:
        """Use another rate from now on. One that is not `trusted` is given up at the first silence."""
        if baud != self._baud:
            self._set_baud(baud)
        self._baud, self._trusted, self._silences = baud, trusted, 0

    def heard(self) -> None:
        """Note that something came."""
        self._silences = 0

    def fall_back(self) -> None:
        """Return to the base rate, to which the device falls back when it hears what it does not understand."""
        self._silences += 1
        if self._baud != self._base and (not self._trusted or self._silences >= PATIENCE):
            self.change_rate(self._base, trusted=True)

    def now(self) -> float:
        """Return seconds from some moment on."""
        return time.monotonic()

    @abc.abstractmethod
    def _set_baud(self, baud: int) -> None:
        """Set this end's rate. ValueError if it cannot be."""

    @abc.abstractmethod
    def write(self, data: bytes) -> None:
        """Send bytes."""

    @abc.abstractmethod
    def read(self, most: int, timeout: float) -> bytes:
        """Return at least one and at most `most` bytes, or none after `timeout` seconds."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of the line."""


def candidates(clock_hz: int, slowest: int, fastest: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield (baud, divisor), the fastest first, of all rates that the device's clock can do.

    Parameters
    ----------
    clock_hz
        The device's clock.
    slowest
        Only rates above this one.
    fastest
        Only rates up to this one; it is tried itself. None for no limit.
    """
    rates = RATES if fastest is None else (fastest, *(baud for baud in RATES if baud < fastest))
    for baud in rates:
        cycles = round(clock_hz / baud)
        if slowest < baud and LEAST_DIVISOR <= cycles < 1 << DIVISOR_BITS and rate_error(clock_hz, baud) < TOLERANCE:
            yield baud, cycles


def negotiate(link: Link, line: RatedTransport, fastest: int | None = None) -> int:
    """Move a link to the fastest rate that works, and return it.

    Each candidate is written to register UART_DIVISOR, and all registers are read over it a few times. If that needs
    a repetition, the next one is tried: a rate must be free of faults, not just bearable.

    Raises
    ------
    LinkError
        The device does not answer any more.
    """

    def tell(divisor: int) -> None:
        _write_divisor(link, divisor)
        link.finish()
        # Until the last stop bit is over, which a receiver does not wait for.
        line.read(1, 2 * FRAME_BITS / line.baud)

    clock_hz = int(link.read(Space.REGISTERS, BY_NAME["CLOCK_HZ"].address, 1)[0])
    for baud, cycles in candidates(clock_hz, line.base, fastest) if clock_hz else ():
        if not line.supports(baud):
            continue
        # A device that fell back keeps its own rate until it has seen a 0.
        tell(0)
        faults = link.faults.total()
        tell(cycles)
        line.change_rate(baud)
        for _ in range(CHECKS):
            link.read(Space.REGISTERS, 0, len(REGISTERS))
        if link.faults.total() == faults:
            line.change_rate(baud, trusted=True)
            break
        if line.baud == baud:
            tell(0)
            line.change_rate(line.base, trusted=True)
    return line.baud


def release(link: Link, line: RatedTransport) -> None:
    """Leave the device at its own rate, so that whoever opens it next need not wait until it falls back.

    A broken link is left as it is.
    """
    if line.baud != line.base:
        with contextlib.suppress(LinkError):
            link.finish()
            _write_divisor(link, 0)
            # Its bytes must have left before anybody changes the rate of this end.
            link.finish()


def _write_divisor(link: Link, divisor: int) -> None:
    link.write(Space.REGISTERS, 0, BY_NAME["UART_DIVISOR"].address, np.array([divisor], np.uint64))
