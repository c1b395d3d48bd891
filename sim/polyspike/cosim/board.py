"""A simulated board: the core behind two wires, for a driver here or, through a pseudo-terminal, in any program."""

import array
import ctypes
import dataclasses
import fcntl
import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable

from polyspike.driver import Connection, Link, open_link
from polyspike.driver.device import Closing
from polyspike.driver.rates import RatedTransport, negotiate
from polyspike.spec import Configuration, LinkError
from polyspike.spec.uart import BASE_BAUD

from .build import ENGINES, Source, library, serial_core

#: A simulated board's clock, unless somebody chooses another one. It gives 115200 and 230400 baud without an error, and
#: few cycles a bit, because simulated cycles take long.
CLOCK_HZ = 8 * BASE_BAUD

#: Seconds of the board's time after which a board that nothing happens to stays as it is: all its timers have ended.
QUIET_SECONDS = 0.75

#: Cycles simulated in one call.
CALL_CYCLES = 100_000

#: The same while a program in another process may be about to send something.
PUMP_CYCLES = 4_000


@dataclasses.dataclass(frozen=True)
class Usage:
    """How the wires of a simulated board were used, in cycles."""

    #: The wire to the board carried a byte, from start bit to stop bit.
    sent: float
    #: The same for the wire from the board.
    received: float
    #: From the beginning of the first byte to the board to the end of the last one.
    span: int


class Wires:
    """A simulated board with the two wires of a serial port. Every instance is a board of its own.

    Parameters
    ----------
    source
        A component with the ports of `polyspike.gateware.serial_core.SerialCore`.
    clock_hz
        The frequency of its clock.
    engine
        See `build.library`.
    """

    def __init__(self, source: Source, clock_hz: int, engine: str | None = None) -> None:
        self.clock_hz = clock_hz
        self._library = ctypes.CDLL(str(library(source, engine)))
        handle, size, cycles, real = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint64, ctypes.c_double
        for name, result, arguments in (
            ("create", handle, []),
            ("destroy", None, [handle]),
            ("cycles", cycles, [handle]),
            ("quiet", cycles, [handle]),
            ("lights", ctypes.c_uint, [handle]),
            ("usage", None, [handle, ctypes.POINTER(real), ctypes.POINTER(real), ctypes.POINTER(cycles)]),
            ("usage_clear", None, [handle]),
            (
                "exchange",
                size,
                [
                    handle,
                    ctypes.c_char_p,
                    size,
                    ctypes.POINTER(size),
                    ctypes.c_char_p,
                    size,
                    size,
                    real,
                    cycles,
                ],
            ),
        ):
            function = getattr(self._library, f"polyspike_{name}")
            function.restype, function.argtypes = result, arguments
        self._handle: int | None = self._library.polyspike_create()

    @property
    def cycles(self) -> int:
        """Clock cycles since the board was reset."""
        return int(self._library.polyspike_cycles(self._open()))

    @property
    def seconds(self) -> float:
        """The same in seconds."""
        return self.cycles / self.clock_hz

    @property
    def asleep(self) -> bool:
        """Whether nothing will happen any more until the host sends something."""
        return int(self._library.polyspike_quiet(self._open())) > QUIET_SECONDS * self.clock_hz

    @property
    def lights(self) -> tuple[bool, bool, bool]:
        """Whether the lights are on: idle, running, error."""
        lights = self._library.polyspike_lights(self._open())
        return bool(lights & 1), bool(lights & 2), bool(lights & 4)

    def exchange(self, data: bytes, most: int, enough: int, baud: float, cycles: int) -> tuple[int, bytes]:
        """Simulate at most `cycles` cycles, with a host's port at `baud`. Ends early when `enough` bytes were received.

        Returns how many bytes of `data` were sent, or begun, and what was received, at most `most` bytes.
        """
        buffer = ctypes.create_string_buffer(most)
        sent = ctypes.c_size_t()
        received = self._library.polyspike_exchange(
            self._open(), data, len(data), ctypes.byref(sent), buffer, most, enough, self.clock_hz / baud, cycles
        )
        return sent.value, buffer.raw[:received]

    def usage(self) -> "Usage":
        """Return how the wires were used since `clear_usage`."""
        sent, received, span = ctypes.c_double(), ctypes.c_double(), ctypes.c_uint64()
        self._library.polyspike_usage(self._open(), ctypes.byref(sent), ctypes.byref(received), ctypes.byref(span))
        return Usage(sent.value, received.value, span.value)

    def clear_usage(self) -> None:
        """Begin a new measurement of `usage`."""
        self._library.polyspike_usage_clear(self._open())

    def close(self) -> None:
        """Let go of the board. Closing twice is harmless."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._library.polyspike_destroy(handle)

    def _open(self) -> int:
        if self._handle is None:
            raise LinkError("the simulated board is closed")
        return self._handle


class SimulatedSerialTransport(RatedTransport):
    """A `polyspike.driver.Transport` whose other end is a simulated board. Its seconds are the board's.

    The board's time goes on only within `read`, so the host appears to be infinitely fast.
    """

    def __init__(self, wires: Wires, baud: int = BASE_BAUD) -> None:
        super().__init__(baud)
        self.wires = wires
        self._pending = b""

    def now(self) -> float:
        """Return the seconds since the board was reset."""
        return self.wires.seconds

    def write(self, data: bytes) -> None:
        """Send bytes; they go out while `read` waits."""
        self._pending += data

    def read(self, most: int, timeout: float) -> bytes:
        """Return what there is, or wait for something; a board that is asleep is not waited for."""
        end = self.wires.cycles + round(timeout * self.wires.clock_hz)
        while True:
            left = max(1, end - self.wires.cycles)
            sent, data = self.wires.exchange(self._pending, most, 1, self.baud, min(left, CALL_CYCLES))
            self._pending = self._pending[sent:]
            if data:
                self.heard()
            if data or self.wires.cycles >= end or (self.wires.asleep and not self._pending):
                return data

    def close(self) -> None:
        """Let go of the board. Closing twice is harmless."""
        self.wires.close()

    def _set_baud(self, baud: int) -> None:
        # A bit that is not sampled at least once is none.
        if baud > self.wires.clock_hz / 2:
            raise ValueError(f"{baud} baud is too fast for a simulated clock of {self.wires.clock_hz} Hz")


class SimulatedSerialBoard(Closing):
    """A simulated board at the other end of a pseudo-terminal, for any program that can use a serial port.

    As on a real board, both ends have a rate: that of the pseudo-terminal is the one set by whoever opened it. Time
    goes on as fast as the simulation does, and stands still once nothing happens any more. A context manager.

    Parameters
    ----------
    configuration, clock_hz, baud
        See `polyspike.gateware.serial_core.SerialCore`.
    engine
        See `build.library`.
    source
        Another component with the same ports instead.
    """

    def __init__(
        self,
        configuration: Configuration,
        clock_hz: int = CLOCK_HZ,
        baud: int = BASE_BAUD,
        engine: str | None = None,
        source: Source | None = None,
    ) -> None:
        self.wires = Wires(source or serial_core(configuration, clock_hz, baud), clock_hz, engine)
        self._host, self._port = os.openpty()
        tty.setraw(self._port)
        os.set_blocking(self._host, False)
        #: The port to open, e.g. "/dev/pts/5".
        self.path = os.ttyname(self._port)
        self._wake, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._pump, name=f"board on {self.path}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Switch the board off and pull its cable. Closing twice is harmless."""
        if self._stop < 0:
            return
        os.close(self._stop)
        self._stop = -1
        self._thread.join()
        for descriptor in (self._wake, self._host, self._port):
            os.close(descriptor)
        self.wires.close()

    def _pump(self) -> None:
        """Simulate, and move bytes between the pseudo-terminal and the board, until the board is closed."""
        to_board = to_host = b""
        while True:
            asleep = self.wires.asleep and not to_board
            writable = [self._host] if to_host else []
            # A sleeping board waits for the host; a busy one only looks whether there is something.
            readable, writable, _ = select.select([self._host, self._wake], writable, [], None if asleep else 0)
            if self._wake in readable:
                return
            if self._host in readable:
                to_board += os.read(self._host, 4096)
            if writable:
                to_host = to_host[os.write(self._host, to_host) :]
            sent, data = self.wires.exchange(to_board, 4096, 4096, self._baud(), PUMP_CYCLES)
            to_board = to_board[sent:]
            to_host += data

    def _baud(self) -> int:
        """Return the rate that was set for the pseudo-terminal."""
        return terminal_baud(self._port)


#: What speeds in a `termios` structure mean, in baud.
_SPEEDS = {
    value: int(name[1:]) for name, value in vars(termios).items() if name.startswith("B") and name[1:].isdecimal()
}

#: Linux: the request that reads `struct termios2`, where its output speed is, in 32-bit words, and how long it is.
_TCGETS2, _OSPEED, _WORDS = 0x802C542A, 10, 11


def terminal_baud(descriptor: int) -> int:
    """Return the rate of a terminal, in baud, also one that has no name in `termios`."""
    speed = termios.tcgetattr(descriptor)[5]
    if speed in _SPEEDS:
        return _SPEEDS[speed]
    if not sys.platform.startswith("linux"):
        return int(speed)
    words = array.array("I", bytes(4 * _WORDS))
    fcntl.ioctl(descriptor, _TCGETS2, words, True)
    return words[_OSPEED]


def bring_up(
    configuration: Configuration, engine: str | None = None, fastest: int | None = None
) -> tuple[SimulatedSerialTransport, Link]:
    """Make a simulated board and agree on the fastest rate, or the fastest one up to `fastest`."""
    wires = Wires(serial_core(configuration, CLOCK_HZ, BASE_BAUD), CLOCK_HZ, engine)
    transport = SimulatedSerialTransport(wires)
    try:
        link, _ = open_link(transport, configuration)
        negotiate(link, transport, fastest)
    except BaseException:
        transport.close()
        raise
    return transport, link


def connector(engine: str | None = None) -> Callable[[Configuration], Connection]:
    """Return what connects a driver to a simulated board in this process."""

    def connect(configuration: Configuration) -> Connection:
        transport, link = bring_up(configuration, engine)
        description = f"a simulated board ({engine or ENGINES[0]}) at {transport.baud} baud"
        return Connection(link, configuration, description, transport.close)

    return connect
