"""Makes words of a dense input: what the host writes to space INPUT."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from polyspike.spec import Configuration
from polyspike.spec.configuration import ADDRESS_BITS, WORD_BITS
from polyspike.spec.registers import InputLayout

from . import layouts

#: Register INPUT_LAYOUT.
LAYOUT = data.StructLayout(dict(InputLayout.FIELDS))

#: A word of a payload. `first` marks the first one, which alone has an `address` (where in SPIKES the first word goes)
#: and a `count` (how many words are to be written).
PART = data.StructLayout({"data": WORD_BITS, "address": ADDRESS_BITS, "count": 16, "first": 1})


class Unpacker(wiring.Component):
    """Takes words of a payload apart into nibbles and makes spike memory words of them, as `Space.INPUT` says.

    A nibble goes into a register of 16 at position `top` - 1, those above it move down: the last `top` nibbles always
    lie as they do in a word, the first one lowest, and no shift by a number of items is ever needed.

    Rate: a nibble a cycle. A word of a payload is taken when all that becomes of it is written, 18 cycles after it was
    offered where the memory is free.

    Members
    -------
    layout : ``In(LAYOUT)``, constant while a payload is under way
    parts : ``In(stream.Signature(PART))``, words of payloads
    words : ``Out(stream.Signature(spike_write(configuration)))``, words for the spike memory
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        super().__init__(
            {
                "layout": In(LAYOUT),
                "parts": In(stream.Signature(PART)),
                "words": Out(stream.Signature(layouts.spike_write(configuration))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the block."""
        m = Module()
        layout, part, word = self.layout, self.parts.p, self.words.p
        nibbles = WORD_BITS // 4
        kept = Signal(data.ArrayLayout(4, nibbles))
        index = Signal(range(nibbles + 1))  # nibbles of this part taken so far
        started = Signal()
        left = Signal(16)  # words to write
        # What is missing: nibbles of this item, items of this row, items up to the next word.
        nibble_left, row_left, word_left = (
            Signal(width, name=f"{name}_left")
            for name, width in (("nibble", len(layout.nibbles)), ("row", len(layout.row)), ("word", len(layout.taps)))
        )
        active = Signal()  # a part is offered, since the cycle before
        m.d.sync += active.eq(self.parts.valid & ~self.parts.ready)
        starts = active & part.first & ~started
        step = active & ~starts & (index != nibbles) & ~self.words.valid
        item = nibble_left == 1
        row = row_left == 1

        m.d.comb += [
            word.data.eq(kept),
            word.mask.eq(0b11),
            self.parts.ready.eq(active & (index == nibbles) & ~self.words.valid),
        ]
        with m.If(starts):
            m.d.sync += [
                started.eq(1),
                kept.eq(0),
                word.address.eq(part.address - 1),
                left.eq(part.count),
                nibble_left.eq(layout.nibbles),
                row_left.eq(layout.row),
                word_left.eq(layout.taps),
            ]
        with m.If(step):
            nibble = part.data.word_select(index[:4], 4)
            for place in range(nibbles):
                above = kept[place + 1] if place + 1 < nibbles else 0
                m.d.sync += kept[place].eq(Mux(layout.top == place + 1, nibble, above))
            m.d.sync += [index.eq(index + 1), nibble_left.eq(Mux(item, layout.nibbles, nibble_left - 1))]
            with m.If(item):
                m.d.sync += [
                    row_left.eq(Mux(row, layout.row, row_left - 1)),
                    word_left.eq(Mux(row, layout.taps, Mux(word_left == 1, layout.stride, word_left - 1))),
                ]
                with m.If((word_left == 1) & (left != 0)):
                    m.d.sync += [self.words.valid.eq(1), word.address.eq(word.address + 1), left.eq(left - 1)]
        with m.If(self.words.valid & self.words.ready):
            m.d.sync += self.words.valid.eq(0)
        with m.If(self.parts.valid & self.parts.ready):
            m.d.sync += [index.eq(0), started.eq(0)]
        return m
