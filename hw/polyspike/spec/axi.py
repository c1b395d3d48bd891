"""The register map of the accelerator behind AXI: 32-bit registers of the AXI4-Lite interface, by byte offset.

Words travel over the streams, 64 bits a transfer: TDATA is a word of the memory map, and words are whole. Registers say
where they go and come from, and COMMAND starts things:

in        Take IN_COUNT words from the input stream and write them to the space in IN_TARGET, from IN_ADDRESS on. A word
          with TLAST that comes before the last one ends the transfer and sets IRQ_STATUS.short; the last one needs no
          TLAST, so that one packet can feed several transfers.
run       Execute RUN_COUNT instructions from instruction RUN_FIRST on, or fewer if one is HALT (count 0: until HALT).
out       Send OUT_COUNT words from OUT_ADDRESS of the spike memory on to the output stream, the last one with TLAST.

The three take place in the order in which they were commanded, and in the order above where one write commands
several: COMMAND = in + run + out is an inference. Only with IN_TARGET.ahead, to SPIKES or INPUT, the transfer waits for
nothing, so that the next image can come in while this one is computed; which words a run touches is the software's to
know. Settings are copied when a command is given and may then be changed.

A command is refused while an earlier one of its kind is not done (`clear`: while a run is not), and when its words or
instructions do not exist; a transfer needs at least one word, and `in` another space than REGISTERS. Of a refused
command nothing is done; it is answered SLVERR, and IRQ_STATUS.refused is set. SLVERR also answers accesses to offsets
that are not in this table, and writes to registers that can only be read; they change nothing, and read as zero. The
lowest two bits of an address are ignored. Byte strobes are honoured: a byte without one keeps its value, and counts as
zero in COMMAND and IRQ_STATUS.
"""

import dataclasses
import enum
import itertools

from .memory import Space
from .registers import COUNTERS, InputLayout

#: Bits of a register's byte offset: the interface takes 4 KiB of the address space.
OFFSET_BITS = 12

#: Spaces that input transfers write to, and those of them that they may write to ahead of earlier commands.
TARGETS = (Space.SPIKES, Space.WEIGHTS, Space.PARAMS, Space.PROGRAM, Space.INPUT)
AHEAD = (Space.SPIKES, Space.INPUT)

#: What ID reads: "pspk" in ASCII.
ID = int.from_bytes(b"pspk", "big")


class Access(enum.Enum):
    """What software can do with a register."""

    READ = "read"
    WRITE = "write"
    READ_WRITE = "read, write"
    #: Writing a one clears the bit.
    CLEAR = "read, write 1 to clear"


@dataclasses.dataclass(frozen=True)
class Field:
    """Bits of a register."""

    name: str
    low: int
    width: int
    doc: str

    @property
    def mask(self) -> int:
        """The field's bits in the register."""
        return ((1 << self.width) - 1) << self.low


@dataclasses.dataclass(frozen=True)
class AxiRegister:
    """One 32-bit register. One without fields is a single number."""

    name: str
    offset: int
    access: Access
    doc: str
    fields: tuple[Field, ...] = ()


def _flags(*flags: tuple[str, str]) -> tuple[Field, ...]:
    return tuple(Field(name, low, 1, doc) for low, (name, doc) in enumerate(flags))


#: Lowest bits of INPUT_LAYOUT's fields.
_LOWS = tuple(itertools.accumulate((width for _, width in InputLayout.FIELDS[:-1]), initial=0))

_READ, _WRITE, _BOTH = Access.READ, Access.WRITE, Access.READ_WRITE
_TABLE: tuple[tuple[str, Access, str, tuple[Field, ...]], ...] = (
    ("ID", _READ, f'"pspk" in ASCII, {ID:#010x}', ()),
    ("VERSION", _READ, "the architecture's version", ()),
    ("DIGEST_LO", _READ, "the configuration's digest, lower half", ()),
    ("DIGEST_HI", _READ, "the configuration's digest, upper half", ()),
    ("CLOCK_HZ", _READ, "frequency of aclk in Hz, 0 where it is unknown", ()),
    (
        "COMMAND",
        _WRITE,
        "starts things",
        _flags(
            ("in", "take words from the input stream"),
            ("run", "execute instructions"),
            ("out", "send words to the output stream"),
            ("clear", "set the counters to zero, before a run that is commanded with it; not while one is in progress"),
            (
                "reset",
                "end everything at once, and drop what is in the streams: as aresetn, but memories and the registers "
                "of this table stay. Reset the streams' other ends, too",
            ),
        ),
    ),
    (
        "STATUS",
        _READ,
        "what was commanded and is not done",
        _flags(("in", "an input transfer"), ("run", "a run"), ("out", "an output transfer")),
    ),
    (
        "IRQ_STATUS",
        Access.CLEAR,
        "what has happened; `irq` is high while a bit is set that IRQ_ENABLE has, too",
        _flags(
            ("in", "an input transfer is done: its words are in memory"),
            ("run", "a run is done"),
            ("out", "an output transfer is done: its last word was taken"),
            ("refused", "a command was refused"),
            ("short", "an input transfer was ended by TLAST before its last word"),
        ),
    ),
    ("IRQ_ENABLE", _BOTH, "which bits of IRQ_STATUS raise `irq`", (Field("bits", 0, 5, "as in IRQ_STATUS"),)),
    (
        "IN_TARGET",
        _BOTH,
        "where the words of an input transfer go",
        (
            Field("space", 0, 3, "number of the address space"),
            Field("ahead", 8, 1, "do not wait for earlier commands"),
            Field("mask", 16, 16, "for WEIGHTS and PARAMS the columns, for INPUT the words that are written"),
        ),
    ),
    ("IN_ADDRESS", _BOTH, "address of an input transfer's first word", ()),
    ("IN_COUNT", _BOTH, "words of an input transfer, as they come from the stream", ()),
    (
        "IN_LAYOUT",
        _BOTH,
        "of an input transfer to INPUT, how its words are unpacked: what INPUT_LAYOUT is among the link's registers",
        tuple(
            Field(name, low, width, "see `polyspike.spec.registers.InputLayout`")
            for (name, width), low in zip(InputLayout.FIELDS, _LOWS, strict=True)
        ),
    ),
    ("RUN_FIRST", _BOTH, "the first instruction of a run", ()),
    ("RUN_COUNT", _BOTH, "instructions of a run; 0: until HALT", ()),
    ("OUT_ADDRESS", _BOTH, "address in SPIKES of an output transfer's first word", ()),
    ("OUT_COUNT", _BOTH, "words of an output transfer", ()),
)

#: Byte offset of the counters: two registers each, the lower half first.
COUNTERS_OFFSET = 0x80


def _counters() -> tuple[AxiRegister, ...]:
    registers = []
    for index, counter in enumerate(COUNTERS):
        offset = COUNTERS_OFFSET + 8 * index
        low = f"{counter.doc}; reading it keeps the upper half for {counter.name}_HI"
        registers.append(AxiRegister(f"{counter.name}_LO", offset, Access.READ, low))
        high = f"upper half of the counter whose lower half was read last: read {counter.name}_LO first"
        registers.append(AxiRegister(f"{counter.name}_HI", offset + 4, Access.READ, high))
    return tuple(registers)


#: Every register, by offset.
REGISTERS = (
    *(AxiRegister(name, 4 * index, access, doc, fields) for index, (name, access, doc, fields) in enumerate(_TABLE)),
    *_counters(),
)

#: Registers by name.
BY_NAME = {register.name: register for register in REGISTERS}


def field(register: str, name: str) -> Field:
    """Return a field of a register."""
    return next(each for each in BY_NAME[register].fields if each.name == name)


def c_header() -> str:
    """Return the register map as a C header: byte offsets, and of fields position and mask."""
    lines = [
        "/* Registers of the polyspike accelerator behind AXI4-Lite: byte offsets; of fields, position and mask. */",
        "#ifndef POLYSPIKE_REGS_H",
        "#define POLYSPIKE_REGS_H",
        "",
        f"#define POLYSPIKE_ID_VALUE 0x{ID:08x}u",
    ]
    for register in REGISTERS:
        lines += ["", f"/* {register.doc} ({register.access.value}) */"]
        lines.append(f"#define POLYSPIKE_{register.name} 0x{register.offset:03x}u")
        for each in register.fields:
            name = f"POLYSPIKE_{register.name}_{each.name.upper()}"
            lines += [f"#define {name}_POS {each.low}u", f"#define {name} 0x{each.mask:08x}u /* {each.doc} */"]
    return "\n".join([*lines, "", "#endif", ""])
