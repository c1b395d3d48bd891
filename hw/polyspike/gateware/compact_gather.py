"""The gather of a compact column: from steps of a walk to events, one count of one lane or of all lanes each."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from polyspike.spec import Configuration
from polyspike.spec.configuration import WORD_BITS
from polyspike.spec.instructions import PassMode

from . import layouts
from .fetch import step_layout


def event_layout(configuration: Configuration) -> data.StructLayout:
    """Return the layout of an event: the code of a count, or a raw sum, for one lane, or in BROADCAST for all lanes.

    Where `add` is low, there is nothing to add: the event only ends a sum.
    """
    return data.StructLayout(
        {
            "row": layouts.row_bits(configuration),
            "code": 8,
            "raw": configuration.membrane_bits,
            "lane": 3,
            "mode": unsigned(2),
            "wide": 1,
            "slot": 1,
            "add": 1,
            "last": 1,
        }
    )


class CompactGather(wiring.Component):
    """Fetch the words of a walk and turn each into events: one a cycle, in the order of the lanes.

    A broadcast or elementwise word gives an event for each nonzero count. A word to take maxima of gives one for each
    lane, and one of raw sums gives two, whatever is in it, because the lanes' sums pass by one after the other. A last
    word with nothing in it gives one event that adds nothing. The word is not copied: it stays at the memory's output
    while `hold` is high, and the next one is asked for in the cycle of its last event.

    Rate: an event a cycle; a word costs two cycles at least. Latency: 1 cycle from a `step` to its `request`, 1 from
    a granted `request` to its event.

    Members
    -------
    step : ``In(stream.Signature(step_layout(configuration)))``
    request : ``Out(stream.Signature(address_bits))``, addresses to read from the spike memory
    word : ``In(64)``, the word of the last request, from the cycle after its transfer on
    hold : ``Out(1)``, high while nobody else may read from the port
    event : ``Out(stream.Signature(event_layout(configuration)))``
    zero_word : ``Out(1)``, high for each word that gave no event
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        super().__init__(
            {
                "step": In(stream.Signature(step_layout(configuration))),
                "request": Out(stream.Signature(layouts.address_bits(configuration))),
                "word": In(WORD_BITS),
                "hold": Out(1),
                "event": Out(stream.Signature(event_layout(configuration))),
                "zero_word": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the block."""
        m = Module()
        configuration, word, event, step = self.configuration, self.word, self.event, self.step
        # What is known of the word at the memory's output, and which of its nibbles are done with.
        known = Signal(
            data.StructLayout(
                {"row": layouts.row_bits(configuration), "mode": unsigned(2)}
                | dict.fromkeys(("wide", "slot", "half", "last", "blank"), 1)
            )
        )
        busy, done = Signal(), Signal(16)
        mode, wide = known.mode, known.wide

        # Nibbles that an event is due for; of a wide count, that is its lower one.
        every = Signal()  # zero counts too
        usable = Signal(2)  # the halves of the word that are for this tile
        single = ~wide & ((mode == PassMode.ELEMENTWISE) | (mode == PassMode.MAXIMUM))
        raw = mode == PassMode.RAW
        odd, even, first = Signal(2), Signal(2), Signal(2)
        m.d.comb += [
            every.eq((mode == PassMode.MAXIMUM) | raw),
            usable.eq(Mux(known.blank, 0, Mux(single, Cat(~known.half, known.half), 0b11))),
            first.eq(usable),  # nibbles 0 and 8: raw sums have these only
            even.eq(Mux(raw, 0, usable)),
            odd.eq(Mux(raw | wide, 0, usable)),
        ]
        due = Signal(16)
        nonzero = Signal(16)
        for nibble in range(16):
            half = nibble // 8
            m.d.comb += nonzero[nibble].eq(word.word_select(nibble, 4).any())
            if nibble % 2:
                found, enabled = nonzero[nibble] | every, odd[half]
            else:
                found = nonzero[nibble] | (wide & nonzero[nibble + 1]) | every
                enabled = (even if nibble % 8 else first)[half]
            m.d.comb += due[nibble].eq(found & enabled & ~done[nibble])

        # The lowest of them, and whether it is the only one: in groups of four.
        index = Signal(4)
        groups = [due[4 * group : 4 * group + 4] for group in range(4)]
        some = Cat(group.any() for group in groups)
        several = Cat(_several(group) for group in groups)
        within = [_lowest(group) for group in groups]
        only = Signal()
        m.d.comb += [
            index[2:].eq(_lowest(some)),
            index[:2].eq(Array(within)[index[2:]]),
            only.eq(~several.any() & ~_several(some)),
        ]

        useful = some.any()
        # Of each group the byte with its lowest due nibble, then the one of the lowest group: the index is late.
        byte = Signal(8)
        bytes_ = [
            Mux(number[1], word.word_select(2 * group + 1, 8), word.word_select(2 * group, 8))
            for group, number in enumerate(within)
        ]
        m.d.comb += byte.eq(Array(bytes_)[index[2:]])
        broadcast = mode == PassMode.BROADCAST
        number = Mux(wide, index[1:], index)  # of the count in its word
        m.d.comb += [
            event.valid.eq(busy & (useful | known.last)),
            event.p.row.eq(known.row + Mux(broadcast, number, 0)),
            event.p.code.eq(Cat(Mux(index[0], byte[4:], byte[:4]), Mux(wide, byte[4:], 0))),
            event.p.raw.eq(
                Mux(
                    raw,
                    Mux(index[3], word[32 : 32 + configuration.membrane_bits], word[: configuration.membrane_bits]),
                    0,
                )
            ),
            event.p.lane.eq(number),
            event.p.mode.eq(mode),
            event.p.wide.eq(wide),
            event.p.slot.eq(known.slot),
            event.p.add.eq(useful),
            event.p.last.eq(known.last & only),
        ]

        # The next step waits in a register: from the word at hand to the walk would be a long way.
        following, there = Signal(step_layout(configuration)), Signal()
        free, taken = Signal(), Signal()
        m.d.comb += [
            free.eq(~busy | (only & (~event.valid | event.ready))),
            taken.eq(there & free & (following.blank | self.request.ready)),
            step.ready.eq(~there),
            self.hold.eq(~free),
            self.request.p.eq(following.address),
            self.request.valid.eq(there & ~following.blank & free),
            self.zero_word.eq(busy & free & ~known.blank & ~useful),
        ]
        with m.If(event.valid & event.ready):
            m.d.sync += done.eq(Cat(at <= index for at in range(16)))
        with m.If(step.ready):
            m.d.sync += [there.eq(step.valid), following.eq(step.p)]
        with m.If(taken):
            m.d.sync += there.eq(0)
        with m.If(free):
            m.d.sync += [
                busy.eq(taken),
                done.eq(0),
                known.row.eq(following.row),
                known.mode.eq(following.mode),
                known.wide.eq(following.wide),
                known.slot.eq(following.slot),
                known.half.eq(following.sub[0]),
                known.last.eq(following.last),
                known.blank.eq(following.blank),
            ]
        return m


def _several(bits: Value) -> Value:
    """Return whether more than one bit is set, of four."""
    return (bits[0] & bits[1]) | (bits[2] & bits[3]) | (bits[:2].any() & bits[2:].any())


def _lowest(bits: Value) -> Value:
    """Return the number of the lowest bit that is set, of four."""
    return Cat(~bits[0] & (bits[1] | ~bits[2]), ~bits[0] & ~bits[1])
