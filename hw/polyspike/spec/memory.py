"""The memory map: address spaces the host reads and writes, in 64-bit words.

How data lies in them:

SPIKES    Maps are stored [timestep][row][pixel][channel], channels last, each pixel starting on a word. A word holds 16
          counts of 4 bits or 8 of 8 bits, channel 0 in the lowest bits; counts are two's complement cut to their width.
          Membranes and raw sums are stored as 32-bit two's complement, two a word, the lower channel in the lower half.
WEIGHTS   Address = row * lanes / 8 + part; weight of lane 8 * part + k in byte k, two's complement. A write goes to all
          columns in the column mask.
PARAMS    Address = 2 * channel + part, the channel counted within the column. Part 0: bias in bits 63..32 (signed),
          theta in bits 31..0. Part 1: initial potential v0 in bits 31..0 (signed), negative threshold theta_neg in bits
          63..32 (configurations that have one; elsewhere it is 0). In a PROBABILISTIC layer those bits of a tile's
          first channel are the jump there from channel 0; see `polyspike.spec.lfsr`. Goes to all columns in the mask.
PROGRAM   Address = instruction index.
REGISTERS See `registers`.
INPUT     The spike memory, written through the unpacker (configurations that have one). The payload is a stream of
          items, the counts of one pixel each, without gaps and the lowest four bits first; register INPUT_LAYOUT
          tells how many nibbles an item has, how many items a row has, and of how many items in a row (taps) a word
          is made, the first one lowest. A word is written for every item from the taps-th of its row on, or, with a
          stride, for every stride-th of those. `address` is where in SPIKES the first one goes; the frame's mask
          field tells how many words are written, and what comes after them in the payload is ignored. The payload of
          a frame starts with a row.
"""

import enum

from .configuration import Configuration


class Space(enum.IntEnum):
    """An address space of the host's view."""

    SPIKES = 0
    WEIGHTS = 1
    PARAMS = 2
    PROGRAM = 3
    REGISTERS = 4
    INPUT = 5


#: Spaces that can be read back; the others can only be written.
READABLE = (Space.SPIKES, Space.REGISTERS)


def depth(configuration: Configuration, space: Space) -> int:
    """Return the words of an address space (of one column, for WEIGHTS and PARAMS)."""
    from .registers import REGISTERS

    return {
        Space.SPIKES: configuration.spike_depth,
        Space.WEIGHTS: configuration.weight_depth * configuration.weight_row_words,
        Space.PARAMS: configuration.param_depth * 2,
        Space.PROGRAM: configuration.program_depth,
        Space.REGISTERS: len(REGISTERS),
        Space.INPUT: configuration.spike_depth if configuration.unpacker else 0,
    }[space]
