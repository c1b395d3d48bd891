"""The lanes: multiply events with weights and add them up."""

import itertools
from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from polyspike.spec import Configuration
from polyspike.spec.configuration import WEIGHT_BITS, WORD_BITS
from polyspike.spec.instructions import PASS_SLOTS, WEIGHTS, PassMode

from . import layouts
from .gather import decode_count
from .primitives import Multiplier

#: Where the second count of a pair begins in an operand: the product of the first one, with a shift of 1, lies below.
_SECOND = 13

#: Largest shift of a product.
_LARGEST_SHIFT = 7

#: Bits in which maxima of counts are compared.
_COUNT_BITS = len(Signal(layouts.COUNT))


class Lanes(wiring.Component):
    """A column's weight bank and its lanes, one output channel each.

    Each event adds weight times count to every lane's sum (or keeps the maximum, or adds a raw sum, by the pass's
    mode). The event marked `last` ends the sum, which is handed over whole, and the next one starts at zero. A raw sum
    has no use for the multipliers: it waits until nothing is in them and goes straight to the adders. With `pairs`,
    both counts of an event are in one operand, a lane has a sum for each position of a pair, and their end hands over
    both, one after the other.

    Rate: one event a cycle, but `LATENCY` - 1 cycles before raw events that follow others; while a finished sum is not
    taken, the next sum is added up, and only its end waits; sums come every other cycle at best, those of a pair every
    third. Latency: `LATENCY` cycles from the last event to `sums`.

    Members
    -------
    weights : ``In(descriptor(WEIGHTS, configuration)).array(PASS_SLOTS)``, constant while events pass
    paired : ``In(1)``, constant while events pass: they are of pairs; with `pairs` only
    event : ``In(stream.Signature(event(configuration)))``
    write : ``In(COLUMN_WRITE)``, with `write_enable`: the host's writes to the weight bank
    sums : ``Out(stream.Signature(layouts.sums(configuration)))``; of a maximum, only the bits of a count mean something
    """

    #: Cycles from an event to its sum: weight row, weight and count, operand, multiplier, capture, sum.
    LATENCY = 5 + Multiplier.LATENCY

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        super().__init__(
            {
                "weights": In(layouts.descriptor(WEIGHTS, configuration)).array(PASS_SLOTS),
                "event": In(stream.Signature(layouts.event(configuration))),
                "write": In(layouts.COLUMN_WRITE),
                "write_enable": In(1),
                "sums": Out(stream.Signature(layouts.sums(configuration))),
            }
            | ({"paired": In(1)} if configuration.pairs else {})
        )

    def elaborate(self, platform: object) -> Module:
        """Build the block."""
        m = Module()
        configuration, lanes = self.configuration, self.configuration.lanes
        bits, pairs = configuration.membrane_bits, configuration.pairs

        m.submodules.bank = bank = memory.Memory(shape=lanes * WEIGHT_BITS, depth=configuration.weight_depth, init=[])
        parts = configuration.weight_row_words
        write_port = bank.write_port(granularity=WORD_BITS)
        part_bits = parts.bit_length() - 1
        m.d.comb += [
            write_port.addr.eq(self.write.address >> part_bits),
            write_port.data.eq(self.write.data.replicate(parts)),
            write_port.en.eq(self.write_enable << (self.write.address[:part_bits] if part_bits else 0)),
        ]
        read_port = bank.read_port()

        weights0 = layouts.select(m, self.weights, self.event.p.slot, "weights0")
        # Stage 1: the weight row arrives beside its event.
        valid1 = Signal()
        event1 = Signal(layouts.event(configuration))
        upper1 = Signal(layouts.NARROW_COUNT)
        weights1 = self.weights[0].signature.create(path=("weights1",))
        mode = weights1.mode
        # Stage 2: weight and count; stage 3: operand; then the multiplier's. Lanes are marked in pairs.
        # (`packed`: products of both positions are one; `second`: something is added to the second one's sums.)
        flag_layout = data.StructLayout(
            {"lanes": lanes // 2, "add": 1, "last": 1, "maximum": 1} | ({"packed": 1, "second": 1} if pairs else {})
        )
        flags = [Signal(flag_layout, name=f"flags{stage}") for stage in range(2, 4 + Multiplier.LATENCY)]
        shift2 = Signal(3)

        marks = Signal(flag_layout)
        m.d.comb += [marks.add.eq(valid1 & event1.add), marks.last.eq(valid1 & event1.last)]
        m.d.comb += marks.maximum.eq(mode == PassMode.MAXIMUM)
        own_add = marks.add  # elementwise events of first positions
        if pairs:
            own_add = marks.add & ~event1.second
            broadcast = mode == PassMode.BROADCAST
            m.d.comb += [
                marks.packed.eq(self.paired & broadcast),
                marks.second.eq(marks.add & self.paired & (broadcast | event1.second)),
            ]
        for pair in range(lanes // 2):
            with m.Switch(mode):
                with m.Case(PassMode.BROADCAST):
                    m.d.comb += marks.lanes[pair].eq(marks.add)
                with m.Case(PassMode.RAW):
                    m.d.comb += marks.lanes[pair].eq(marks.add & (event1.sub == pair))
                with m.Default():
                    m.d.comb += marks.lanes[pair].eq(own_add & (~weights1.wide | (event1.sub == pair // 4)))

        # The capture stage takes products, or, when nothing is on its way, a raw sum.
        captured = Signal(flag_layout)
        raw1 = Signal()  # there is a raw sum in stage 1
        left = Signal(range(len(flags) + 1))  # moves until the last of the other events has left the stages behind it
        empty = left == 0

        # Everything moves together, or, when a finished sum has to wait, not at all: while `captured.last` and
        # `sums.valid` both are set. That is told a cycle ahead, because `move` goes to every register of every lane.
        move, take = Signal(init=1), Signal()
        next_last, next_valid = Signal(), Signal()
        another = Signal()  # behind the sums that are offered there are those of the second position
        done = self.sums.ready & ~another if pairs else self.sums.ready
        m.d.comb += [
            next_last.eq(Mux(move, Mux(raw1 & empty, marks.last, flags[-1].last), captured.last)),
            next_valid.eq((move & captured.last) | (self.sums.valid & ~done)),
            take.eq(move & (~raw1 | empty)),
            self.event.ready.eq(take),
            read_port.en.eq(take),
            read_port.addr.eq(self.event.p.row),
        ]
        with m.If(take):
            m.d.sync += [valid1.eq(self.event.valid), event1.eq(self.event.p)]
            m.d.sync += raw1.eq(self.event.valid & (weights0.mode == PassMode.RAW))
            m.d.sync += [getattr(weights1, name).eq(getattr(weights0, name)) for name in weights0.signature.members]
            if pairs:
                # The second count lies above the first one, which takes one off it where it is negative.
                m.d.sync += upper1.eq(self.event.p.other - self.event.p.count[-1])
        with m.If(move):
            m.d.sync += [
                shift2.eq(weights1.shift),
                left.eq(Mux(valid1 & ~raw1, len(flags), left - (left != 0))),
                flags[0].eq(Mux(raw1, 0, marks)),
                captured.eq(Mux(raw1 & empty, marks, flags[-1])),
            ]
            for before, after in itertools.pairwise(flags):
                m.d.sync += after.eq(before)

        m.d.sync += [self.sums.valid.eq(next_valid), move.eq(~(next_last & next_valid))]

        # The next addition starts a new maximum, in the lower and upper half of the lanes.
        fresh = Signal(2, init=0b11)
        with m.If(move):
            for half in range(2):
                part = captured.lanes[half * lanes // 4 : (half + 1) * lanes // 4]
                with m.If(captured.last):
                    m.d.sync += fresh[half].eq(1)
                with m.Elif(part.any()):
                    m.d.sync += fresh[half].eq(0)

        if pairs:
            with m.If(self.sums.valid & self.sums.ready):
                m.d.sync += another.eq(0)
            with m.If(move & captured.last):
                m.d.sync += another.eq(self.paired)

        # With pairs it is the weight that is shifted, so a count need not wait for its shift in every lane.
        event, described, upper = event1, weights1, upper1
        if pairs:
            event, upper = Signal.like(event1, name="event2"), Signal.like(upper1, name="upper2")
            described = self.weights[0].signature.create(path=("weights2",))
            with m.If(move):
                m.d.sync += [event.eq(event1), upper.eq(upper1)]
                m.d.sync += [
                    getattr(described, name).eq(getattr(weights1, name)) for name in described.signature.members
                ]

        for lane in range(lanes):
            # The count or raw sum that an elementwise, maximum or raw word has for this lane.
            narrow = Array(event.word.word_select(tile * lanes + lane, 4) for tile in range(16 // lanes))[
                event.sub[0] if lanes < 16 else 0
            ]
            wide = event.word.word_select(lane % 8, 8)
            raw = event1.word.word_select(lane % 2, 32)
            own = Mux(
                described.wide, decode_count(wide, described.positive, 8), decode_count(narrow, described.positive, 4)
            )
            if pairs:
                multiplier = Multiplier(_SECOND + len(upper), WEIGHT_BITS + _LARGEST_SHIFT)
                self._second(m, lane, move, captured.last, flags[-1].second, multiplier.p)
            else:
                multiplier = Multiplier(fabric=lane < configuration.fabric_lanes)
            m.submodules[f"multiplier{lane}"] = multiplier
            weight = Signal(signed(WEIGHT_BITS), name=f"weight{lane}")
            operand = Signal(signed(multiplier.a_bits), name=f"operand{lane}")
            factor = Signal(signed(multiplier.b_bits), name=f"factor{lane}")
            product = Signal(signed(bits), name=f"product{lane}")
            total = Signal(signed(bits), name=f"total{lane}")
            following = Signal(signed(bits), name=f"following{lane}")
            with m.If(move):
                m.d.sync += [
                    # A maximum is multiplied by one on its way.
                    weight.eq(Mux(marks.maximum, 1, read_port.data.word_select(lane, WEIGHT_BITS))),
                    total.eq(following),
                ]
                # The shift comes before the multiplication, where it is narrower.
                multiplied = multiplier.p
                if pairs:
                    first = Cat(own, own[-1].replicate(len(multiplier.a) - len(own)))
                    second = Cat(Const(0, _SECOND), own[: len(upper)])
                    both = Cat(event.count, event.count[-1].replicate(_SECOND - len(event.count)), upper)
                    count = Mux(described.mode == PassMode.BROADCAST, both, Mux(event.second, second, first))
                    m.d.sync += [operand.eq(count.as_signed()), factor.eq(weight << shift2)]
                    multiplied = Mux(flags[-1].packed, multiplier.p[:_SECOND].as_signed(), multiplier.p)
                else:
                    count = Signal(layouts.COUNT, name=f"count{lane}")
                    m.d.sync += [
                        count.eq(Mux(mode == PassMode.BROADCAST, event.count, own)),
                        operand.eq(count << shift2),
                        factor.eq(weight),
                    ]
                m.d.sync += product.eq(Mux(raw1 & empty, raw.as_signed(), multiplied))
                with m.If(~Mux(raw1 & empty, marks.lanes[lane // 2], flags[-1].lanes[lane // 2])):
                    m.d.sync += product.eq(0)
                with m.If(captured.last):
                    m.d.sync += [self.sums.p[lane].eq(following), total.eq(0)]
            m.d.comb += [multiplier.enable.eq(move), multiplier.a.eq(operand), multiplier.b.eq(factor)]
            # A maximum is among counts, so a count's bits decide it.
            larger = fresh[lane * 2 // lanes] | (product[:_COUNT_BITS].as_signed() > total[:_COUNT_BITS].as_signed())
            mine = captured.lanes[lane // 2]
            added = (total + product)[:bits]
            m.d.comb += following.eq(added)
            with m.If(captured.maximum):
                m.d.comb += following[:_COUNT_BITS].eq(Mux(mine & larger, product, total)[:_COUNT_BITS])
        return m

    def _second(self, m: Module, lane: int, move: Signal, last: Any, adds: Any, multiplied: Signal) -> None:
        """Add a lane's sum of the second position of a pair; it is offered when that of the first one is taken.

        A finished sum of the first position, assigned after this, takes precedence: `sums.ready` can be high without an
        offer.
        """
        shape = signed(self.configuration.membrane_bits)
        product = Signal(signed(len(multiplied) - _SECOND), name=f"second_product{lane}")
        borrowed = Signal(name=f"second_borrowed{lane}")  # a negative product below took one off this one
        total, waiting = Signal(shape, name=f"second_total{lane}"), Signal(shape, name=f"second_sum{lane}")
        added = Signal(shape, name=f"second_added{lane}")
        # A carry into the sum, not a sum of three.
        carrying = (Cat(1, total).as_signed() + Cat(borrowed, product).as_signed())[1:]
        m.d.comb += added.eq(carrying)
        with m.If(self.sums.ready):
            m.d.sync += self.sums.p[lane].eq(waiting)
        with m.If(move):
            m.d.sync += [
                product.eq(multiplied[_SECOND:].as_signed()),
                borrowed.eq(multiplied[_SECOND - 1]),
                total.eq(added),
            ]
            with m.If(~adds):
                m.d.sync += [product.eq(0), borrowed.eq(0)]
            with m.If(last):
                m.d.sync += [waiting.eq(added), total.eq(0)]
