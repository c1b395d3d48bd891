"""The simulated device as a byte transport: the link of a board, with clock cycles for time."""

import ctypes
from collections.abc import Callable
from pathlib import Path

from polyspike.driver import Connection, open_link
from polyspike.spec import Configuration, DeviceError

from .build import ENGINES, Source, core, library

#: Cycles of silence, the device not being busy, after which nothing more will come.
QUIET_CYCLES = 10_000

#: Cycles after which even a busy device is given up.
BUSY_CYCLES = 1_000_000_000

#: What the simulated clock is taken to be, where somebody counts seconds.
CLOCK_HZ = 100_000_000

#: Cycles simulated in one call, so that an interrupt from the keyboard gets through.
CALL_CYCLES = 200_000


class SimulatedTransport:
    """A `polyspike.driver.Transport` whose other end is simulated gateware. Each one is a device of its own.

    Parameters
    ----------
    path
        A library made by `polyspike.cosim.build.library`.
    """

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._library.polyspike_create.restype = ctypes.c_void_p
        self._library.polyspike_destroy.argtypes = [ctypes.c_void_p]
        self._library.polyspike_destroy.restype = None
        self._library.polyspike_cycles.argtypes = [ctypes.c_void_p]
        self._library.polyspike_cycles.restype = ctypes.c_uint64
        self._library.polyspike_step.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
        self._library.polyspike_step.restype = None
        self._library.polyspike_exchange.argtypes = [
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.POINTER(ctypes.c_size_t),
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_uint64,
            ctypes.c_uint64,
        ]
        self._library.polyspike_exchange.restype = ctypes.c_size_t
        self._handle: int | None = self._library.polyspike_create()
        self._pending = b""

    @property
    def cycles(self) -> int:
        """Clock cycles since the device was reset."""
        return int(self._library.polyspike_cycles(self._open()))

    def step(self, cycles: int) -> None:
        """Let time pass."""
        self._library.polyspike_step(self._open(), cycles)

    @property
    def bytes_per_second(self) -> None:
        """Mean nothing: a byte takes a cycle."""
        return None

    def now(self) -> float:
        """Return the seconds since the device was reset."""
        return self.cycles / CLOCK_HZ

    def fall_back(self) -> None:
        """Do nothing: there is but one rate."""

    def write(self, data: bytes) -> None:
        """Send bytes; they go out while `read` waits."""
        self._pending += data

    def read(self, most: int, timeout: float) -> bytes:
        """Return `most` bytes, or what there is when the device has fallen silent. `timeout` means nothing here."""
        handle = self._open()
        start = self.cycles
        answer = b""
        while True:
            buffer = ctypes.create_string_buffer(most - len(answer))
            sent = ctypes.c_size_t()
            before = self.cycles
            received = self._library.polyspike_exchange(
                handle,
                self._pending,
                len(self._pending),
                ctypes.byref(sent),
                buffer,
                len(buffer),
                QUIET_CYCLES,
                CALL_CYCLES,
            )
            self._pending = self._pending[sent.value :]
            answer += buffer.raw[:received]
            complete = len(answer) == most
            silent = self.cycles - before < CALL_CYCLES
            if complete or silent or self.cycles - start > BUSY_CYCLES:
                return answer

    def close(self) -> None:
        """Let go of the device. Closing twice is harmless."""
        handle, self._handle = self._handle, None
        if handle is not None:
            self._library.polyspike_destroy(handle)

    def _open(self) -> int:
        if self._handle is None:
            raise DeviceError("the simulated device is closed")
        return self._handle


def simulated_core(configuration: Configuration, engine: str | None = None) -> SimulatedTransport:
    """Return a transport to new simulated gateware."""
    return SimulatedTransport(library(core(configuration), engine))


def connector(engine: str | None = None) -> Callable[[Configuration], Connection]:
    """Return what connects a driver to simulated gateware of any configuration. See `build.library` for `engine`."""

    def connect(configuration: Configuration) -> Connection:
        return connect_to(core(configuration), configuration, engine)

    return connect


def connect_to(source: Source, configuration: Configuration, engine: str | None = None) -> Connection:
    """Build `source`, which must have that configuration, and connect to it."""
    transport = SimulatedTransport(library(source, engine))
    try:
        # Bytes are never lost here and silence is certain, so asking once more is enough.
        link, _ = open_link(transport, configuration, timeout=1.0, run_timeout=1.0, attempts=2)
    except BaseException:
        transport.close()
        raise
    return Connection(link, configuration, f"simulated gateware ({engine or ENGINES[0]})", transport.close)
