"""The two interfaces below a device: words in address spaces, and the bytes of a link."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from polyspike.spec.memory import Space


class Transport(Protocol):
    """A byte stream to a device, e.g. a serial port."""

    def write(self, data: bytes) -> None:
        """Send bytes, waiting as long as the device takes no more of them."""

    def read(self, most: int, timeout: float) -> bytes:
        """Return at least one and at most `most` bytes, or none after `timeout` seconds of silence.

        A simulated device counts clock cycles instead of seconds.
        """

    def close(self) -> None:
        """Let go of the stream."""


class MemoryPort(Protocol):
    """A device as the memory map shows it: 64-bit words in address spaces, and a way to run instructions."""

    def write(self, space: Space, mask: int, address: int, words: NDArray[np.uint64]) -> None:
        """Write words, any number of them. `mask` chooses columns for WEIGHTS and PARAMS and is 0 otherwise."""

    def read(self, space: Space, address: int, count: int) -> NDArray[np.uint64]:
        """Read words, any number of them."""

    def run(self, first: int, count: int) -> None:
        """Execute `count` instructions from instruction `first` on, and return when they are done."""


@dataclasses.dataclass(frozen=True)
class Connection:
    """A memory port, what is behind it, and how to let go of it."""

    port: MemoryPort
    description: str
    close: Callable[[], None]
