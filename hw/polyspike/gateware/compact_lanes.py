"""The lanes of a compact column: multiply events with weights and add them up in a ring."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from polyspike.spec import Configuration
from polyspike.spec.configuration import WEIGHT_BITS
from polyspike.spec.instructions import PASS_SLOTS, WEIGHTS, PassMode

from . import layouts
from .accumulator import Accumulator, RowMemory
from .compact_gather import event_layout


class CompactLanes(wiring.Component):
    """A weight bank and eight accumulators in a ring.

    A BROADCAST event is multiplied with a weight row and added in all lanes, an ELEMENTWISE one in its lane. For a
    maximum or a raw sum the ring turns by one place: the sum that comes out at lane 0 goes back in at the other end,
    replaced by a larger count, or with the raw sum added. So after the events of a tile each sum is where it was. A
    finished sum turns out of the ring lane by lane, and zeros turn in.

    Rate: one event a cycle; a maximum or raw sum behind a product waits one more, and the sums take a cycle a lane.
    Latency: 2 cycles from the last event to `sums`.

    Members
    -------
    weights : ``In(descriptor(WEIGHTS, configuration)).array(PASS_SLOTS)``, constant while events pass
    event : ``In(stream.Signature(event_layout(configuration)))``
    write : ``In(COLUMN_WRITE)``, with `write_enable`: the host's writes to the weight bank
    sums : ``Out(stream.Signature(signed(membrane_bits)))``, a tile's sums from lane 0 on
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        super().__init__(
            {
                "weights": In(layouts.descriptor(WEIGHTS, configuration)).array(PASS_SLOTS),
                "event": In(stream.Signature(event_layout(configuration))),
                "write": In(layouts.COLUMN_WRITE),
                "write_enable": In(1),
                "sums": Out(stream.Signature(signed(configuration.membrane_bits))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Build the block."""
        m = Module()
        lanes, bits = self.configuration.lanes, self.configuration.membrane_bits
        m.submodules.bank = bank = RowMemory(self.configuration.weight_depth)

        # The event at hand, its count, and what becomes of a product while its weights are read.
        valid = Signal()
        event = Signal(event_layout(self.configuration))
        weights = layouts.select(m, self.weights, event.slot, "selected")
        negative = event.code > weights.positive
        count = Signal(layouts.COUNT)
        m.d.comb += count.eq(Cat(event.code[:4], event.code[4:] | (negative & ~event.wide).replicate(4), negative))
        operand = Signal(signed(16))
        adding = Signal(lanes)  # lanes that add the product of `operand` and their weight in this cycle

        ending = Signal()  # a sum is complete, and leaves before the next event
        fresh = Signal(init=1)  # nothing was added to the sum yet
        leaves, turns = Signal(), Signal()
        assert PassMode.MAXIMUM & PassMode.RAW == 2 and (PassMode.BROADCAST | PassMode.ELEMENTWISE) == 1
        turning = event.add & event.mode[1]
        m.d.comb += [
            turns.eq(leaves & turning),
            leaves.eq(valid & ~ending & ~(turning & adding.any())),
            self.event.ready.eq(~valid | leaves),
        ]
        with m.If(self.event.ready):
            m.d.sync += [valid.eq(self.event.valid), event.eq(self.event.p)]
        with m.If(leaves):
            m.d.sync += operand.eq(count << weights.shift)
        for lane in range(lanes):
            mine = ~event.mode[1] & ((event.mode == PassMode.BROADCAST) | (event.lane == lane))
            m.d.sync += adding[lane].eq(leaves & event.add & mine)

        # A finished sum leaves the ring when the last product is in it.
        place = Signal(range(lanes))
        handing = self.sums.valid & self.sums.ready
        m.d.comb += self.sums.valid.eq(ending & ~adding.any())
        with m.If(leaves & event.last):
            m.d.sync += ending.eq(1)
        with m.If(handing):
            m.d.sync += [place.eq(place + 1), fresh.eq(1)]
            with m.If(place == lanes - 1):
                m.d.sync += ending.eq(0)
        # The first word of a sum has a count for each lane; the next one compares.
        with m.If(turns & (event.lane == lanes - 1)):
            m.d.sync += fresh.eq(0)

        out = Signal(signed(bits))
        back = Signal(signed(bits))
        maximum = event.mode == PassMode.MAXIMUM
        larger = maximum & (fresh | (count > out[:9].as_signed()))
        with m.If(ending):
            m.d.comb += back.eq(0)
        with m.Elif(larger):
            m.d.comb += back.eq(count)
        with m.Else():
            m.d.comb += back.eq(out + event.raw)
        m.d.comb += self.sums.p.eq(out)

        m.d.comb += [
            bank.write.eq(self.write_enable),
            bank.enable.eq(self.write_enable | leaves),
            bank.address.eq(Mux(self.write_enable, self.write.address, event.row)),
            bank.word.eq(self.write.data),
        ]
        ring = [Accumulator(bits) for _ in range(lanes)]
        for lane, each in enumerate(ring):
            m.submodules[f"lane{lane}"] = each
            m.d.comb += [
                each.enable.eq(turns | handing | adding[lane]),
                each.load.eq(turns | handing),
                each.a.eq(operand),
                each.b.eq(bank.data.word_select(lane, WEIGHT_BITS)),
                each.value.eq(ring[lane + 1].total if lane + 1 < lanes else back),
            ]
        m.d.comb += out.eq(ring[0].total)
        return m
