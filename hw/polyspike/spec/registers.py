"""The register map: 64-bit registers in `Space.REGISTERS`."""

import dataclasses
from typing import ClassVar

from .errors import ConfigurationError

#: First register: "polyspik" in ASCII, so that a wrong device is told apart from a wrong configuration.
MAGIC = int.from_bytes(b"polyspik", "big")


@dataclasses.dataclass(frozen=True)
class Register:
    """One 64-bit register. Counters add up over runs until COUNTERS_CLEAR is written."""

    name: str
    address: int
    doc: str
    writable: bool = False


_TABLE = (
    ("MAGIC", '"polyspik" in ASCII'),
    ("DIGEST", "the configuration's digest"),
    ("CYCLES", "cycles in which a RUN was being executed"),
    ("EVENTS", "lane cycles / lanes: cycles in which a column added an event, summed over columns"),
    ("WORDS", "spike words fetched, summed over columns"),
    ("ZERO_WORDS", "fetched words that were all zero and therefore skipped, summed over columns"),
    (
        "STALL_FETCH",
        "column cycles without an event because no fetched word was there yet (the column was granted its fetches)",
    ),
    ("STALL_PORT", "column cycles without an event while the column waited for a spike memory port"),
    ("STALL_DRAIN", "column cycles in which a finished sum waited for the fire unit"),
    (
        "STALL_IDLE",
        "column cycles without work: layer start and end, or fewer positions or tiles than columns",
    ),
)

#: Every register, in address order. The first two identify the device, then come the counters.
REGISTERS = (
    *(Register(name, address, doc) for address, (name, doc) in enumerate(_TABLE)),
    Register("COUNTERS_CLEAR", len(_TABLE), "writing any value sets all counters to zero", writable=True),
    Register("CLOCK_HZ", len(_TABLE) + 1, "frequency of the device's clock in Hz; 0 where it is unknown"),
    Register(
        "UART_DIVISOR",
        len(_TABLE) + 2,
        "clock cycles a bit of the UART, 0 for the board's own choice; from the end of this request's answer on, while "
        "no other request is unanswered. When something arrives and no sound request is answered for half a second, "
        "the board returns to its own choice until this register has been 0",
        writable=True,
    ),
    Register(
        "INPUT_LAYOUT", len(_TABLE) + 3, "how a payload for space INPUT is unpacked: see `InputLayout`", writable=True
    ),
)

#: Registers by name.
BY_NAME = {register.name: register for register in REGISTERS}

#: The counters, in address order.
COUNTERS = REGISTERS[2 : BY_NAME["COUNTERS_CLEAR"].address]


@dataclasses.dataclass(frozen=True)
class InputLayout:
    """What register INPUT_LAYOUT holds. Invariants are checked at construction.

    Raises
    ------
    ConfigurationError
        A word would hold more than 64 bits, or a value does not fit its field.
    """

    #: Nibbles of an item: the counts of a pixel.
    nibbles: int
    #: Items of a row.
    row: int
    #: Items that make a word.
    taps: int = 1
    #: Items from one word to the next.
    stride: int = 1

    #: Fields from bit 0 on, and their widths. `top` is nibbles * taps, the nibbles of a word.
    FIELDS: ClassVar[tuple[tuple[str, int], ...]] = (
        ("nibbles", 5),
        ("top", 5),
        ("row", 10),
        ("taps", 4),
        ("stride", 4),
    )

    def __post_init__(self) -> None:
        for name, width in self.FIELDS:
            value = getattr(self, name)
            if not 0 < value < 1 << width:
                raise ConfigurationError(f"input layout: {name} = {value}, but it must be from 1 to {(1 << width) - 1}")
        if self.top > 16:
            raise ConfigurationError(f"input layout: a word of {self.top} nibbles, but at most 16 fit")
        if self.taps > self.row:
            raise ConfigurationError(f"input layout: {self.taps} taps, but a row has only {self.row} items")

    @property
    def top(self) -> int:
        """Nibbles of a word."""
        return self.nibbles * self.taps

    def encode(self) -> int:
        """Return the register's value."""
        value = shift = 0
        for name, width in self.FIELDS:
            value |= getattr(self, name) << shift
            shift += width
        return value
