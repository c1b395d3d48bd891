"""A board on a serial port."""

import contextlib
import errno
import math
import os
import time

import serial
import serial.tools.list_ports

from polyspike.spec import Configuration, DeviceError, LinkError
from polyspike.spec.uart import BASE_BAUD

from .link import Link, open_link
from .ports import Connection
from .rates import RatedTransport, negotiate, release

#: Seconds that one call of the operating system waits at most.
_TICK = 0.02

#: Seconds after which a port that takes no bytes is given up.
_WRITE_SECONDS = 10.0

#: Environment variable: the seconds that count as one where a serial port leads to a slow simulation.
TIME_SCALE_VARIABLE = "POLYSPIKE_TIME_SCALE"

_HELP = "see 'When it does not answer' in docs/boards.md"


class SerialTransport(RatedTransport):
    """A serial port, 8N1.

    Parameters
    ----------
    path
        Its name, e.g. "/dev/ttyUSB0" or "COM3".
    baud
        The rate to begin with.
    time_scale
        Seconds that count as one: more than 1 for a simulated board, which is slower than a real one.

    Raises
    ------
    DeviceError
        There is no such port, it may not be used, or somebody else uses it.
    """

    def __init__(self, path: str, baud: int = BASE_BAUD, time_scale: float = 1.0) -> None:
        super().__init__(baud)
        self._time_scale = time_scale
        self._path = path
        try:
            self._port = serial.Serial(
                path, baud, timeout=_TICK, write_timeout=_WRITE_SECONDS * time_scale, exclusive=True
            )
        except (OSError, ValueError) as error:
            raise DeviceError(_why_not(path, baud, error)) from error
        # USB bridges hand over what they have every 16 ms otherwise. Not every driver can, and only Linux has it.
        with contextlib.suppress(AttributeError, NotImplementedError, OSError, ValueError):
            self._port.set_low_latency_mode(True)
        self._port.reset_input_buffer()

    def now(self) -> float:
        """Return seconds from some moment on, scaled."""
        return time.monotonic() / self._time_scale

    def write(self, data: bytes) -> None:
        """Send bytes."""
        try:
            self._open().write(data)
        except serial.SerialTimeoutException as error:
            raise LinkError(f"serial port {self._path} took no bytes for {_WRITE_SECONDS:.0f} s; {_HELP}") from error
        except OSError as error:
            raise self._gone(error) from error

    def read(self, most: int, timeout: float) -> bytes:
        """Return what there is, or wait for something."""
        port = self._open()
        deadline = self.now() + timeout
        try:
            while True:
                data: bytes = port.read(min(most, max(1, port.in_waiting)))
                if data:
                    if len(data) < most:
                        data += port.read(min(most - len(data), port.in_waiting))
                    self.heard()
                    return data
                if self.now() >= deadline:
                    return b""
        except OSError as error:
            raise self._gone(error) from error

    def close(self) -> None:
        """Let go of the port. Closing twice is harmless."""
        self._port.close()

    def _set_baud(self, baud: int) -> None:
        try:
            self._open().baudrate = baud
        except OSError as error:
            # Not every driver refuses a rate in the same way.
            if isinstance(error, serial.SerialException) or error.errno in (errno.EINVAL, errno.ENOTTY):
                raise ValueError(str(error)) from error
            raise self._gone(error) from error

    def _open(self) -> serial.Serial:
        if not self._port.is_open:
            raise LinkError(f"serial port {self._path} is closed")
        return self._port

    def _gone(self, error: OSError) -> LinkError:
        return LinkError(
            f"serial port {self._path} is gone ({error}): was the cable pulled or the board switched off? "
            f"Plug it in and open the device again"
        )


def connect(target: str, configuration: Configuration | None = None) -> Connection:
    """Open a board on a serial port and agree on the fastest rate. See `Connection`.

    `target` is the port, and what follows an @ says something of the rate, in baud: "/dev/ttyUSB0" begins with 115200
    and goes as fast as board and bridge can, "/dev/ttyUSB0@..3000000" no faster than that, and "/dev/ttyUSB0@921600"
    stays at that rate, which must be the board's own.
    """
    transport, link, found = bring_up(target, configuration)

    def close() -> None:
        release(link, transport)
        transport.close()

    return Connection(link, found, f"a board on {target} at {transport.baud} baud", close)


def bring_up(target: str, configuration: Configuration | None = None) -> tuple[SerialTransport, Link, Configuration]:
    """Open a board as `connect` does, and return its parts."""
    path, base, fastest = parse(target)
    transport = SerialTransport(path, base, _time_scale())
    try:
        link, found = open_link(transport, configuration)
        if fastest != base:
            negotiate(link, transport, fastest)
    except LinkError as error:
        transport.close()
        raise LinkError(f"serial port {path}, {base} baud: {error}; {_HELP}") from error
    except BaseException:
        transport.close()
        raise
    return transport, link, found


def leave(transport: SerialTransport, configuration: Configuration) -> None:
    """Close a transport over which somebody else had a session, the device at its own rate if that is possible."""
    with contextlib.suppress(DeviceError):
        link, _ = open_link(transport, configuration, attempts=1)
        release(link, transport)
    transport.close()


def _time_scale() -> float:
    """Return $POLYSPIKE_TIME_SCALE, or 1."""
    text = os.environ.get(TIME_SCALE_VARIABLE) or "1"
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not 0 < scale < math.inf:
        raise DeviceError(f"${TIME_SCALE_VARIABLE} is {text!r}, but it must be a number above 0")
    return scale


def parse(target: str) -> tuple[str, int, int | None]:
    """Return port, first rate, and fastest rate (None for no limit) of what `connect` takes.

    Raises
    ------
    DeviceError
        It is not of the form that `connect` describes.
    """
    path, at, rate = target.partition("@")
    first, dots, last = rate.partition("..")
    base = int(first) if first.isdecimal() else BASE_BAUD
    fastest = int(last) if last.isdecimal() else None if not at else base
    sound = not at or (last.isdecimal() and not first if dots else first.isdecimal())
    if not path or not sound or base < 1 or (fastest is not None and fastest < base):
        raise DeviceError(
            f"malformed serial port {target!r}; it is PORT, PORT@BAUD, or PORT@..FASTEST with at least {BASE_BAUD}, "
            f"e.g. /dev/ttyUSB0@..3000000"
        )
    return path, base, fastest


def _why_not(path: str, baud: int, error: OSError | ValueError) -> str:
    """Say why a port could not be opened, and what to do."""
    number = getattr(error, "errno", None)
    if number == errno.ENOENT:
        there = sorted(f"{each.device} ({each.description})" for each in serial.tools.list_ports.comports())
        return f"no serial port {path}; " + (f"there are {', '.join(there)}" if there else f"there is none; {_HELP}")
    if number == errno.EACCES:
        return (
            f"permission denied for serial port {path}; on Linux, become a member of the group that owns it, usually "
            f"`sudo usermod -aG dialout $USER`, and log in again"
        )
    if number in (errno.EBUSY, errno.EAGAIN):
        return f"serial port {path} is in use by another program (a terminal, another polyspike?); close that first"
    return f"serial port {path} cannot be opened at {baud} baud: {error}"
