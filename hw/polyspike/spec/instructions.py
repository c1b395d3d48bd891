"""The instruction set: 64-bit words, an opcode in the lowest bits and fields above it.

A program is straight-line code. `SOURCE`, `WINDOW` and `WEIGHTS` describe one *pass* (one source of events) of the
layer to come, `OUTPUT`, `SHAPE` and `FIRE` the layer itself, `RANDOM` what its random numbers depend on; all of them
keep their values until they are written again. `RUN` executes the layer and ends when its last word is in the spike
memory. `HALT` ends the program.

What `RUN` does, as a loop nest (`L` lanes, `M` columns, `G = M >> position_log2` groups of `P = 1 << position_log2`
columns; a group works on one output tile of `L` channels, the columns of a group on different positions)::

    for round in range(ceil(tiles / G)):                       # tile of group g is round * G + g, if < tiles
        for index, (y, x) in enumerate(all output positions):  # column index % P of every group takes it
            for t in range(timesteps):
                membrane_sum[lane] = 0
                for slot in range(passes):
                    for ky, kx in window:
                        iy, ix = y * stride_y - pad_y + ky, x * stride_x - pad_x + kx
                        if 0 <= iy < height and 0 <= ix < width:
                            for w in range(words):
                                word = spikes[origin + t * time_pitch + (y * stride_y + ky) * row_pitch
                                              + (x * stride_x + kx) * pixel_pitch + w + tile_offset]
                                tap = 0 if shared else ky * kernel_w + kx
                                row = base + round * tile_step + tap * row_tap + w * row_word
                                accumulate(word, row)          # by the pass mode, see below
                fire(membrane_sum, parameters[params + round * L + lane], t)   # by the fire kind

`origin` is the address of the window's top left tap at output position (0, 0), so it already has
`pad_y * row_pitch + pad_x * pixel_pitch` subtracted. All address arithmetic wraps at the depth of its memory. `iy` and
`ix` must stay within -2048 and 2047, which they do wherever a window starts inside its padded source.

Pass modes (`N` = counts a word: 16, or 8 where `wide`; a count is `code - 2^B` when `code > positive`, else `code`, so
zero is always code 0 and any range of at most `2^B` values can be expressed):

`BROADCAST`    row_tap = words * N, row_word = N, tile_offset = 0. Count i of the word times weight row `row + i` is
               added to all lanes.
`ELEMENTWISE`  row_tap = 1, row_word = 0, tile_offset = (tile * L) // N words. Lane l takes count `(tile * L + l) % N`
               of word `l // N` of its tile (so `words` is `ceil(L / N)`), times its weight in row `row`.
`MAXIMUM`      As ELEMENTWISE, but the lane keeps the largest count instead of a sum; no weights, and 0 where the window
               lies outside altogether. A RUN with a MAXIMUM pass has no other pass.
`RAW`          tile_offset = tile * L / 2 words, `words` = L / 2. Word w holds two signed 32-bit sums for lanes 2w and
               2w + 1, which are added as they are. This continues sums that a `RAW` fire wrote, where a layer's
               weights come in parts.

In BROADCAST and ELEMENTWISE each product is shifted left by `shift`.

Where `pairs` is set, which takes a configuration that has pairs, a column works on two positions of a row at a time:
`width` counts pairs, and `stride_x` and the `pixel_pitch` of OUTPUT lead from pair to pair. The second position of a
pair lies half of each to the right of the first one. (So both are even, no source is less than half of `stride_x` wide,
and `stride_x * pixel_pitch` of a source and `pixel_pitch` of OUTPUT are less than the spike memory has words.) All
counts read have 4 bits; passes are BROADCAST, with a shift of 0 or 1, or ELEMENTWISE; numbers are not drawn.

Fire kinds (theta, theta_neg, bias and initial potential v0 come from the parameter memory, one set a channel; `params`
counts channels):

`SPIKE`     v = (v0 if t == 0 else v) + sum + bias; s = clip(floor(v / theta), -lo, n_pos); v -= theta * s; s is
            written. lo is n_neg, or, where `rectified`, min(n_neg, spikes emitted so far for this position); it is 0
            while -theta_neg <= v < 0, where there is a negative threshold.
`MEMBRANE`  v = (v0 if t == 0 else v) + sum + bias; v is written as 32-bit values after the last timestep.
`RAW`       the sum itself is written as 32-bit values at every timestep; no parameters.
`PROBABILISTIC`
            v = (v0 if t == 0 else v) + sum + bias. After the last timestep all of them are fired, one after the other:
            s = 1 if v > 0 and v * 2^16 > r * theta * (timesteps - t), else 0; v -= theta * s; s is written, with 4
            bits. Configurations that have probabilistic neurons only.

The numbers r of a PROBABILISTIC layer come from a register that `polyspike.spec.lfsr` describes, with the taps TAPS of
`RANDOM`. Its state before the draw of channel 0 at t = 0 of the first position (y = x = 0) is FIRST. Jumps lead from
there to the next position (POSITION), from one timestep to the next (TIMESTEP), and to the first channel of a tile (in
the parameters of that channel, `params` being a multiple of L); the channels of a tile draw one after the other.

Output words of a tile: SPIKE and PROBABILISTIC write `L * B / 64` words (half a word where L * B = 32) at word offset
`tile * L * B / 64`; MEMBRANE and RAW write L / 2 words at offset `tile * L / 2`. The address of a position is
`base + t * time_pitch + y * row_pitch + x * pixel_pitch` plus that offset (MEMBRANE uses t = 0).
"""

import dataclasses
import enum
from collections.abc import Iterator, Mapping

from .configuration import ADDRESS_BITS, WORD_BITS
from .errors import CompileError, FileFormatError

OPCODE_BITS = 4

#: Signed bits of a tap's place in its source: `y * stride_y - pad_y + ky`, and the same in x, must fit.
COORDINATE_BITS = 12

#: Passes (sources of events) one RUN can add up before it fires.
PASS_SLOTS = 2


class PassMode(enum.IntEnum):
    """How a pass turns spike words into additions. See the module's description."""

    BROADCAST = 0
    ELEMENTWISE = 1
    MAXIMUM = 2
    RAW = 3


class FireKind(enum.IntEnum):
    """What happens to a finished sum. See the module's description."""

    SPIKE = 0
    MEMBRANE = 1
    RAW = 2
    PROBABILISTIC = 3


#: The fire kinds of every configuration.
COMMON_FIRES = (FireKind.SPIKE, FireKind.MEMBRANE, FireKind.RAW)


class RandomValue(enum.IntEnum):
    """What RANDOM sets. See the module's description."""

    TAPS = 0
    FIRST = 1
    POSITION = 2
    TIMESTEP = 3


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of an instruction: `width` bits, two's complement when `signed`."""

    name: str
    width: int
    doc: str
    signed: bool = False

    @property
    def range(self) -> range:
        """Values the field can hold."""
        half = 1 << (self.width - 1)
        return range(-half, half) if self.signed else range(1 << self.width)


@dataclasses.dataclass(frozen=True)
class Format:
    """The layout of one instruction: fields from the opcode upwards."""

    name: str
    opcode: int
    doc: str
    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        width = OPCODE_BITS + sum(field.width for field in self.fields)
        if width > WORD_BITS:
            raise ValueError(f"instruction {self.name} has {width} bits")

    def placed(self) -> Iterator[tuple[int, Field]]:
        """Yield (lowest bit, field) for every field."""
        at = OPCODE_BITS
        for field in self.fields:
            yield at, field
            at += field.width


_SLOT = Field("slot", 1, "pass that is described")

SOURCE = Format(
    "SOURCE",
    1,
    "Where a pass reads its spike words.",
    (
        _SLOT,
        Field(
            "origin",
            ADDRESS_BITS,
            "address of the window's top left tap at output (0, 0), padding subtracted",
        ),
        Field("row_pitch", 16, "words from one row to the next"),
        Field("pixel_pitch", 10, "words from one pixel to the next"),
        Field("time_pitch", 16, "words from one timestep to the next; 0 repeats the same map"),
    ),
)
WINDOW = Format(
    "WINDOW",
    2,
    "The window a pass slides over its source.",
    (
        _SLOT,
        Field("height", 10, "rows of the source"),
        Field("width", 10, "pixels in a row of the source"),
        Field("kernel_h", 7, "rows of the window"),
        Field("kernel_w", 7, "columns of the window"),
        Field("stride_y", 4, "rows the window moves for each output row"),
        Field("stride_x", 4, "pixels the window moves for each output column"),
        Field("pad_y", 8, "rows of the window above the source at output row 0", signed=True),
        Field("pad_x", 8, "pixels of the window left of the source at output column 0", signed=True),
    ),
)
WEIGHTS = Format(
    "WEIGHTS",
    3,
    "How a pass turns words into additions.",
    (
        _SLOT,
        Field("mode", 2, "PassMode"),
        Field("base", 16, "first weight row"),
        Field("words", 10, "words read at each tap of the window"),
        Field("tile_step", 16, "weight rows from one round to the next"),
        Field("shared", 1, "all taps use the same weight rows: the window is summed before it is weighted"),
        Field("wide", 1, "0: 16 counts of 4 bits a word; 1: 8 counts of 8 bits"),
        Field("positive", 8, "largest code that is a positive count; larger codes are negative"),
        Field("shift", 3, "every product is shifted left by this; 0 with MAXIMUM"),
    ),
)
OUTPUT = Format(
    "OUTPUT",
    4,
    "Where a layer writes.",
    (
        Field("base", ADDRESS_BITS, "address of output (0, 0)"),
        Field("row_pitch", 16, "words from one row to the next"),
        Field("pixel_pitch", 10, "words from one pixel to the next"),
        Field("time_pitch", 16, "words from one timestep to the next"),
    ),
)
SHAPE = Format(
    "SHAPE",
    5,
    "How much a layer computes, and how it is mapped to columns.",
    (
        Field("height", 10, "output rows"),
        Field("width", 10, "output pixels in a row"),
        Field("timesteps", 8, "timesteps, 1 or more"),
        Field("tiles", 10, "output tiles of `lanes` channels"),
        Field("position_log2", 3, "log2 of the columns that share a tile and divide its positions"),
        Field("passes", 2, "passes that are added up before firing"),
        Field("pairs", 1, "positions are worked on two by two; configurations that have pairs only"),
    ),
)
FIRE = Format(
    "FIRE",
    6,
    "What happens to finished sums.",
    (
        Field("kind", 2, "FireKind"),
        Field("params", 16, "first channel in the parameter memory"),
        Field("wide", 1, "0: counts are written with 4 bits; 1: with 8 bits"),
        Field("n_neg", 8, "most negative spikes a timestep, at most 8 where counts have 4 bits, 128 where they have 8"),
        Field("n_pos", 8, "most positive spikes a timestep"),
        Field("rectified", 1, "negative spikes only as far as they take back positive ones"),
    ),
)
RUN = Format("RUN", 7, "Execute the layer that the descriptors describe, and wait until it is done.", ())
RANDOM = Format(
    "RANDOM",
    8,
    "One of the values that random numbers depend on; configurations with probabilistic neurons only.",
    (Field("which", 2, "RandomValue"), Field("value", 32, "the register's taps, a state, or a jump")),
)
HALT = Format("HALT", 0, "End the program.", ())

#: Every instruction, by opcode.
FORMATS = {f.opcode: f for f in (HALT, SOURCE, WINDOW, WEIGHTS, OUTPUT, SHAPE, FIRE, RUN, RANDOM)}


@dataclasses.dataclass(frozen=True)
class Instruction:
    """An instruction with its field values."""

    format: Format
    values: Mapping[str, int]

    def __str__(self) -> str:
        def show(field: Field) -> str:
            value = self.values[field.name]
            if field.name == "mode":
                return f"mode={PassMode(value).name}"
            if field.name == "kind":
                return f"kind={FireKind(value).name}"
            if field.name == "which":
                return f"which={RandomValue(value).name}"
            return f"{field.name}={value}"

        return " ".join([f"{self.format.name:8}", *(show(field) for field in self.format.fields)]).rstrip()


def make(format: Format, **values: int) -> Instruction:
    """Build an instruction. All fields must be given and fit.

    Raises
    ------
    CompileError
        A value does not fit its field.
    """
    names = [field.name for field in format.fields]
    if sorted(values) != sorted(names):
        raise TypeError(f"{format.name} takes {', '.join(names)}, not {', '.join(values)}")
    for field in format.fields:
        if values[field.name] not in field.range:
            raise CompileError(
                f"{format.name}.{field.name} = {values[field.name]} does not fit: "
                f"it takes {field.range.start} to {field.range.stop - 1}"
            )
    return Instruction(format, {name: int(values[name]) for name in names})


def encode(instruction: Instruction) -> int:
    """Return the 64-bit word of an instruction."""
    word = instruction.format.opcode
    for at, field in instruction.format.placed():
        word |= (instruction.values[field.name] & ((1 << field.width) - 1)) << at
    return word


def decode(word: int) -> Instruction:
    """Return the instruction of a 64-bit word.

    Raises
    ------
    FileFormatError
        The opcode is unknown.
    """
    opcode = word & ((1 << OPCODE_BITS) - 1)
    if opcode not in FORMATS:
        raise FileFormatError(f"instruction word {word:#018x} has the unknown opcode {opcode}")
    format = FORMATS[opcode]
    values = {}
    for at, field in format.placed():
        value = word >> at & ((1 << field.width) - 1)
        if field.signed and value >> (field.width - 1):
            value -= 1 << field.width
        values[field.name] = value
    return Instruction(format, values)
