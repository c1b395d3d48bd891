"""From spike words to events."""

import itertools
from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from polyspike.spec import Configuration
from polyspike.spec.configuration import WORD_BITS
from polyspike.spec.instructions import PASS_SLOTS, WEIGHTS, PassMode

from . import layouts
from .buffer import Buffer


def decode_count(code: Signal, positive: Signal, width: int) -> Signal:
    """Return the signed count of a code: codes above `positive` are negative. (A sign bit: nothing is subtracted.)"""
    return Cat(code[:width], code > positive[:width]).as_signed()


def decoded(wide: Any, narrow: Any, weights: Any) -> Any:
    """Return the signed count of a code of 8 or of 4 bits, whichever the pass with these WEIGHTS has."""
    return Mux(weights.wide, decode_count(wide, weights.positive, 8), decode_count(narrow, weights.positive, 4))


def several(marks: Any) -> Any:
    """Return whether more than one of some marks is set. (Carry chains would take longer to say.)"""

    def pairs(bits: Sequence[Any]) -> Any:
        return Cat(one & other for one, other in itertools.combinations(bits, 2)).any()

    fours = [marks[start : start + 4] for start in range(0, len(marks), 4)]
    return Cat(pairs(list(four)) for four in fours).any() | pairs([four.any() for four in fours])


class Gather(wiring.Component):
    """Turn each fetched word into events, one for each nonzero count; zero counts cost nothing.

    A broadcast word gives an event a nonzero count, a pair of them one where either count is not zero; a word for
    elementwise, maximum or raw use gives one. The next word follows without a gap. A last word without anything in it
    gives one event that adds nothing.

    Rate: one event a cycle. Latency: 3 cycles from a word to its first event.

    Members
    -------
    weights : ``In(descriptor(WEIGHTS, configuration)).array(PASS_SLOTS)``, constant while words pass
    fetched : ``In(stream.Signature(fetched(configuration)))``
    event : ``Out(stream.Signature(event(configuration)))``
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        super().__init__(
            {
                "weights": In(layouts.descriptor(WEIGHTS, configuration)).array(PASS_SLOTS),
                "fetched": In(stream.Signature(layouts.fetched(configuration))),
                "event": Out(stream.Signature(layouts.event(configuration))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the block."""
        m = Module()
        current = Signal(layouts.fetched(self.configuration))
        busy = Signal()
        chosen = Signal(
            data.StructLayout(
                {
                    "word": WORD_BITS,
                    "index": range(layouts.MARKS),
                    "row": layouts.row_bits(self.configuration),
                    "slot": 1,
                    "sub": 3,
                    "add": 1,
                    "last": 1,
                }
                | ({"other": WORD_BITS, "second": 1} if self.configuration.pairs else {})
            )
        )
        chosen_valid, place = Signal(), Signal()
        m.submodules.events = events = Buffer(layouts.event(self.configuration))
        if self.configuration.pairs:
            # To choose two codes and decode them is too long a way for a cycle: codes wait in the buffer, not counts.
            offered = events.o.p
            of_offered = layouts.select(m, self.weights, offered.slot, "of_offered")
            m.d.comb += [
                self.event.valid.eq(events.o.valid),
                events.o.ready.eq(self.event.ready),
                self.event.p.eq(offered),
                self.event.p.count.eq(decoded(offered.count[:8], offered.count[:4], of_offered)),
                self.event.p.other.eq(decode_count(offered.other[:4], of_offered.positive, 4)),
            ]
        else:
            connect(m, events.o, flipped(self.event))
        finished = Signal()  # no more than one mark is left; a register, for the path back to the queue of words
        weights = layouts.select(m, self.weights, chosen.slot, "weights")

        # The lowest nonzero count, and whether it is the only one left.
        rest = Signal(layouts.MARKS)
        index = Signal(range(layouts.MARKS))
        m.d.comb += rest.eq(current.marks & (current.marks - 1))
        for position in reversed(range(layouts.MARKS)):
            with m.If(current.marks[position]):
                m.d.comb += index.eq(position)
        narrow = Array(chosen.word.word_select(position, 4) for position in range(16))[chosen.index]
        wide = Array(chosen.word.word_select(position, 8) for position in range(8))[chosen.index[:3]]
        count = Signal(layouts.COUNT)
        if self.configuration.pairs:
            other = Array(chosen.other.word_select(position, 4) for position in range(16))[chosen.index]
            m.d.comb += [
                count.eq(Mux(weights.wide, wide, narrow)),
                events.i.p.other.eq(other),
                events.i.p.second.eq(chosen.second),
            ]
        else:
            m.d.comb += count.eq(decoded(wide, narrow, weights))

        # First the place of a count in its word, then the count. All of it goes on by a register, whatever is in it.
        m.d.comb += [
            place.eq(events.i.ready),
            self.fetched.ready.eq(~busy | (place & finished)),
            events.i.valid.eq(chosen_valid),
            events.i.p.row.eq(chosen.row + Mux(weights.mode == PassMode.BROADCAST, chosen.index, 0)),
            events.i.p.count.eq(count),
            events.i.p.word.eq(chosen.word),
            events.i.p.slot.eq(chosen.slot),
            events.i.p.sub.eq(chosen.sub),
            events.i.p.add.eq(chosen.add),
            events.i.p.last.eq(chosen.last),
        ]
        with m.If(place):
            m.d.sync += [
                chosen_valid.eq(busy),
                chosen.word.eq(current.word),
                chosen.index.eq(index),
                chosen.row.eq(current.row),
                chosen.slot.eq(current.slot),
                chosen.sub.eq(current.sub),
                chosen.add.eq(current.marks != 0),
                chosen.last.eq(current.last & finished),
            ]
            if self.configuration.pairs:
                m.d.sync += [chosen.other.eq(current.other), chosen.second.eq(current.second)]
            with m.If(busy):
                m.d.sync += [current.marks.eq(rest), finished.eq(~several(rest))]
        with m.If(self.fetched.ready):
            m.d.sync += [busy.eq(self.fetched.valid), current.eq(self.fetched.p), finished.eq(~self.fetched.p.several)]
        return m
