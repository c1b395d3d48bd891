"""The two interfaces below a device: words in address spaces, and the bytes of a link."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from polyspike.spec import Configuration
from polyspike.spec.memory import Space

Words = NDArray[np.uint64]


class Transport(Protocol):
    """A byte stream to a device, e.g. a serial port. Bytes stay in order; some may get lost or damaged.

    It holds at least `RECEIVE_BYTES` of what the device sends while nobody reads. Every method but `close` raises
    LinkError, saying what happened, when the stream is gone: cable pulled, connection lost, closed.
    """

    @property
    def bytes_per_second(self) -> float | None:
        """What the line carries in each direction; None if that is unknown or means nothing."""

    def write(self, data: bytes) -> None:
        """Send bytes; may return as soon as they are buffered.

        Waits as long as the device takes no more of them, and raises LinkError when that takes unreasonably long.
        """

    def read(self, most: int, timeout: float) -> bytes:
        """Return at least one and at most `most` bytes, or none after `timeout` seconds of silence.

        Returns what there is without waiting for more. A simulated device may return nothing as soon as it is certain
        that nothing will come.
        """

    def now(self) -> float:
        """Return seconds from some moment on, as this transport counts them: `time.monotonic()` where it is real."""

    def fall_back(self) -> None:
        """Prepare for a repetition after `timeout` seconds of silence (`Link`).

        A transport that has agreed on a faster rate returns to the one that the device falls back to by itself. Others
        do nothing.
        """

    def close(self) -> None:
        """Let go of the stream. Closing twice is harmless."""


#: Bytes of answers that a transport must be able to hold; the link never asks for more at a time.
RECEIVE_BYTES = 4096


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that went over a link so far, everything included."""

    sent: int
    received: int
    #: The transport's time (`Transport.now`).
    seconds: float
    #: What the line carries in each direction, if that is known.
    bytes_per_second: float | None


class MemoryPort(Protocol):
    """A device as the memory map shows it: 64-bit words in address spaces, and a way to run instructions.

    Everything happens in the order in which it is asked for. What may return early may report an error at a later call.
    """

    def write(self, space: Space, mask: int, address: int, words: Words, ahead: bool = False) -> None:
        """Write words. May return before they are written.

        Parameters
        ----------
        space, address
            where
        mask
            Columns for WEIGHTS and PARAMS; for INPUT the number of words that are unpacked; 0 otherwise.
        words
            Any number; for INPUT at most a frame's (`Configuration.frame_words`).
        ahead
            Write (SPIKES or INPUT only) even while a run goes on, once it has started. The caller knows that the run
            neither reads nor writes these words.
        """

    def read(self, space: Space, address: int, count: int) -> Words:
        """Read words, any number of them, after the end of the run before."""

    def read_later(self, space: Space, address: int, count: int) -> Callable[[], Words]:
        """Ask for words as `read` does, and return a function that waits for them."""

    def run(self, first: int, count: int) -> None:
        """Execute `count` instructions from instruction `first` on (0: until HALT). May return before they are done."""

    def finish(self) -> None:
        """Wait until everything that was asked for is done."""

    def traffic(self) -> Traffic | None:
        """Return the bytes moved so far; None where there is no link."""


@dataclasses.dataclass(frozen=True)
class Connection:
    """A memory port, what is behind it, and how to let go of it.

    A module that connects to boards, named in `opening`, has a function ``connect(target: str, configuration:
    Configuration | None) -> Connection``: `target` is what stands behind the scheme in the url, e.g. "/dev/ttyUSB0" of
    "serial:/dev/ttyUSB0". It brings up a transport, hands it to `link.open_link`, and closes it if that fails. It
    raises DeviceError where the target is malformed or absent, and LinkError where it does not answer.
    """

    port: MemoryPort
    #: The device's, whether it was asked for or found.
    configuration: Configuration
    description: str
    close: Callable[[], None]
