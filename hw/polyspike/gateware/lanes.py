"""The lanes: multiply events with weights and add them up."""

import itertools
from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from polyspike.spec import Configuration
from polyspike.spec.configuration import WEIGHT_BITS, WORD_BITS
from polyspike.spec.instructions import PASS_SLOTS, WEIGHTS, PassMode

from . import layouts
from .gather import decoded
from .primitives import UNCHECKED, Multiplier, read_unchecked

#: Where the second count of a pair begins in an operand: the product of the first one, with a shift of 1, lies below.
_SECOND = 13

#: Bits of an operand that has the counts of a pair.
_OPERAND_BITS = _SECOND + layouts.NARROW_COUNT.width

#: Largest shift of a product.
_LARGEST_SHIFT = 7

#: Bits in which maxima of counts are compared.
_COUNT_BITS = layouts.COUNT.width


class Lanes(wiring.Component):
    """A column's weight bank and its lanes, one output channel each.

    Each event adds weight times count to every lane's sum (or keeps the maximum, or adds a raw sum, by the pass's
    mode). The event marked `last` ends the sum, which is handed over whole, and the next one starts at zero. A raw sum
    has no use for the multipliers: it waits until nothing is in them and goes straight to the adders. With `pairs`,
    both counts of an event are in one operand, a lane has a sum for each position of a pair, and their end hands over
    both at once; a raw sum is multiplied by one in two parts, because its own way to the adders would be wide.

    Rate: one event a cycle, but `latency` - 1 cycles before raw events that follow others, or, with `pairs`, two cycles
    for each raw event; while a finished sum is not taken, the next sum is added up, and only its end waits; sums come
    every other cycle at best. Latency: `latency` cycles from the last event to `sums`.

    Members
    -------
    weights : ``In(descriptor(WEIGHTS, configuration)).array(PASS_SLOTS)``, constant while events pass
    paired : ``In(1)``, constant while events pass: they are of pairs; with `pairs` only
    event : ``In(stream.Signature(event(configuration)))``
    write : ``In(COLUMN_WRITE)``, with `write_enable`: the host's writes to the weight bank
    sums : ``Out(stream.Signature(layouts.sums(configuration)))``; of a maximum, only the bits of a count mean something
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        #: Cycles from event to sum: weight row, weight and count, operand unless pairs, multiplier, capture, sum.
        self.latency = 5 - configuration.pairs + Multiplier.LATENCY
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
        # With pairs: bits of the lower part of a raw sum, and how far the upper one is shifted with its weight of one.
        raw_part = bits // 2
        raw_shift = min(raw_part, _LARGEST_SHIFT)

        m.submodules.bank = bank = memory.Memory(
            shape=lanes * WEIGHT_BITS, depth=configuration.weight_depth, init=[], attrs=UNCHECKED if pairs else {}
        )
        parts = configuration.weight_row_words
        write_port = bank.write_port(granularity=WORD_BITS)
        part_bits = parts.bit_length() - 1
        m.d.comb += [
            write_port.addr.eq(self.write.address >> part_bits),
            write_port.data.eq(self.write.data.replicate(parts)),
            write_port.en.eq(self.write_enable << (self.write.address[:part_bits] if part_bits else 0)),
        ]

        weights0 = layouts.select(m, self.weights, self.event.p.slot, "weights0")
        # Stage 1: the weight row arrives beside its event.
        valid1 = Signal()
        event1 = Signal(layouts.event(configuration))
        weights1 = self.weights[0].signature.create(path=("weights1",))
        mode = weights1.mode
        # Stage 2: weight and count; stage 3, without pairs: operand; then the multiplier's. Lanes are marked in pairs.
        # (`packed`: products of both positions are one; `second`: something is added to the second one's sums.)
        flag_layout = data.StructLayout(
            {"lanes": lanes // 2, "add": 1, "last": 1, "maximum": 1} | ({"packed": 1, "second": 1} if pairs else {})
        )
        flags = [Signal(flag_layout, name=f"flags{stage}") for stage in range(2, self.latency - 1)]
        shift2 = Signal(3)

        marks = Signal(flag_layout)
        raw1 = Signal()  # there is a raw sum in stage 1
        upper_part = Signal()  # and its lower part has gone on; with pairs
        ends = event1.last & (~raw1 | upper_part) if pairs else event1.last
        m.d.comb += [marks.add.eq(valid1 & event1.add), marks.last.eq(valid1 & ends)]
        m.d.comb += marks.maximum.eq(mode == PassMode.MAXIMUM)
        own_add = marks.add  # elementwise events of first positions
        unweighted = marks.maximum
        if pairs:
            unweighted = marks.maximum | raw1
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

        # The capture stage takes products, or, when nothing is on its way, a raw sum; with pairs, products only.
        captured = Signal(flag_layout)
        left = Signal(range(len(flags) + 1))  # moves until the last of the other events has left the stages behind it
        empty = left == 0
        straight = 0 if pairs else raw1 & empty

        # Everything moves together, or, when a finished sum has to wait, not at all: while `captured.last` and
        # `sums.valid` both are set. That is told a cycle ahead, because `move` goes to every register of every lane.
        move, take = Signal(init=1), Signal()
        next_last, next_valid = Signal(), Signal()
        m.d.comb += [
            next_last.eq(Mux(move, Mux(straight, marks.last, flags[-1].last), captured.last)),
            next_valid.eq((move & captured.last) | (self.sums.valid & ~self.sums.ready)),
            take.eq(move & (~raw1 | (upper_part if pairs else empty))),
            self.event.ready.eq(take),
        ]
        if pairs:
            row = read_unchecked(m, bank, take, self.event.p.row)
        else:
            read_port = bank.read_port()
            m.d.comb += [read_port.en.eq(take), read_port.addr.eq(self.event.p.row)]
            row = read_port.data
        with m.If(take):
            m.d.sync += [valid1.eq(self.event.valid), event1.eq(self.event.p)]
            m.d.sync += raw1.eq(self.event.valid & (weights0.mode == PassMode.RAW))
            m.d.sync += [getattr(weights1, name).eq(getattr(weights0, name)) for name in weights0.signature.members]
        with m.If(move):
            m.d.sync += shift2.eq(weights1.shift)
            if pairs:
                m.d.sync += upper_part.eq(raw1 & ~upper_part)
                with m.If(raw1):
                    m.d.sync += shift2.eq(Mux(upper_part, raw_shift, 0))
            else:
                m.d.sync += left.eq(Mux(valid1 & ~raw1, len(flags), left - (left != 0)))
            m.d.sync += [
                flags[0].eq(marks if pairs else Mux(raw1, 0, marks)),
                captured.eq(Mux(straight, marks, flags[-1])),
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

        # With pairs it is the weight that is shifted, so a count need not wait for its shift in every lane. An operand
        # is what lanes with even or odd numbers have in common, both counts or a part of a raw sum, or what is a lane's
        # own; the other one is zero.
        if pairs:
            common = [Signal(signed(_OPERAND_BITS), name=f"common{parity}") for parity in range(2)]
            shared = (mode == PassMode.BROADCAST) | raw1
            second2 = Signal()
            # The second count lies above the first one, which takes one off it where it is negative.
            negative = event1.count[-1]
            upper = (event1.other - negative)[: layouts.NARROW_COUNT.width]
            both = Cat(event1.count, negative.replicate(_SECOND - len(event1.count)), upper)
            with m.If(move):
                m.d.sync += second2.eq(event1.second)
                for parity in range(2):
                    raw = event1.word.word_select(parity, 32)[:bits]
                    shifted = raw[raw_part:].as_signed() << (raw_part - raw_shift)
                    part = Mux(upper_part, shifted, raw[:raw_part])
                    m.d.sync += common[parity].eq(Mux(raw1, part, both.as_signed()))
                    with m.If(~shared):
                        m.d.sync += common[parity].eq(0)

        for lane in range(lanes):
            # The count or raw sum that an elementwise, maximum or raw word has for this lane.
            narrow = Array(event1.word.word_select(tile * lanes + lane, 4) for tile in range(16 // lanes))[
                event1.sub[0] if lanes < 16 else 0
            ]
            wide = event1.word.word_select(lane % 8, 8)
            own = decoded(wide, narrow, weights1)
            if pairs:
                multiplier = Multiplier(_OPERAND_BITS, WEIGHT_BITS + _LARGEST_SHIFT)
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
                    weight.eq(Mux(unweighted, 1, row.word_select(lane, WEIGHT_BITS))),
                    total.eq(following),
                ]
                # The shift comes before the multiplication, where it is narrower.
                count = Signal(layouts.COUNT, name=f"count{lane}")
                if pairs:
                    m.d.sync += count.eq(own)
                    with m.If(shared):
                        m.d.sync += count.eq(0)
                    m.d.sync += product.eq(Mux(flags[-1].packed, multiplier.p[:_SECOND].as_signed(), multiplier.p))
                else:
                    raw = event1.word.word_select(lane % 2, 32)
                    m.d.sync += [
                        count.eq(Mux(mode == PassMode.BROADCAST, event1.count, own)),
                        operand.eq(count << shift2),
                        factor.eq(weight),
                        product.eq(Mux(straight, raw.as_signed(), multiplier.p)),
                    ]
                with m.If(~Mux(straight, marks.lanes[lane // 2], flags[-1].lanes[lane // 2])):
                    m.d.sync += product.eq(0)
                with m.If(captured.last):
                    m.d.sync += [self.sums.p[lane].eq(following), total.eq(0)]
            if pairs:
                # The multiplier's own registers are the operand's.
                placed = Mux(second2, count[: layouts.NARROW_COUNT.width] << _SECOND, count)
                m.d.comb += [operand.eq(common[lane % 2] | placed), factor.eq(weight << shift2)]
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
        """Add a lane's sum of the second position of a pair."""
        shape = signed(self.configuration.membrane_bits)
        product = Signal(signed(len(multiplied) - _SECOND), name=f"second_product{lane}")
        borrowed = Signal(name=f"second_borrowed{lane}")  # a negative product below took one off this one
        total = Signal(shape, name=f"second_total{lane}")
        added = Signal(shape, name=f"second_added{lane}")
        # A carry into the sum, not a sum of three.
        carrying = (Cat(1, total).as_signed() + Cat(borrowed, product).as_signed())[1:]
        m.d.comb += added.eq(carrying)
        with m.If(move):
            m.d.sync += [
                product.eq(multiplied[_SECOND:].as_signed()),
                borrowed.eq(multiplied[_SECOND - 1]),
                total.eq(added),
            ]
            with m.If(~adds):
                m.d.sync += [product.eq(0), borrowed.eq(0)]
            with m.If(last):
                m.d.sync += [self.sums.p[self.configuration.lanes + lane].eq(added), total.eq(0)]
