"""The register map: 64-bit registers in `Space.REGISTERS`."""

import dataclasses

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

#: Every register, in address order. The first two identify the device, the others are counters.
REGISTERS = (
    *(Register(name, address, doc) for address, (name, doc) in enumerate(_TABLE)),
    Register("COUNTERS_CLEAR", len(_TABLE), "writing any value sets all counters to zero", writable=True),
)

#: Registers by name.
BY_NAME = {register.name: register for register in REGISTERS}

#: The counters, in address order.
COUNTERS = tuple(register for register in REGISTERS[2:] if not register.writable)
