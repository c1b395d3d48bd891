"""The lanes: multiply events with weights and add them up."""

from amaranth.hdl import Array, Module, Mux, Signal, signed
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from polyspike.spec import Configuration
from polyspike.spec.configuration import WEIGHT_BITS, WORD_BITS
from polyspike.spec.instructions import PASS_SLOTS, WEIGHTS, PassMode

from . import layouts
from .gather import decode_count

#: Lowest value a count can have: where the search for a maximum starts.
_LOWEST = -128


class Lanes(wiring.Component):
    """A column's weight bank and its lanes, one output channel each.

    Each event adds weight times count to every lane's sum (or keeps the maximum, or adds a raw sum, by the pass's
    mode). The event marked `last` ends the sum, which is handed over whole, and the next one starts at zero.

    Rate: one event a cycle; when a finished sum is not taken, everything waits. Latency: 3 cycles from the last event
    to `sums`.

    Members
    -------
    weights : ``In(descriptor(WEIGHTS, configuration)).array(PASS_SLOTS)``, constant while events pass
    event : ``In(stream.Signature(event(configuration)))``
    write : ``In(COLUMN_WRITE)``, with `write_enable`: the host's writes to the weight bank
    sums : ``Out(stream.Signature(ArrayLayout(signed(membrane_bits), lanes)))``
    """

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
        )

    def elaborate(self, platform: object) -> Module:
        """Build the block."""
        m = Module()
        configuration, lanes = self.configuration, self.configuration.lanes

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

        # Everything moves together, or, when a finished sum has to wait, not at all.
        move = Signal()
        m.d.comb += [
            move.eq(~self.sums.valid | self.sums.ready),
            self.event.ready.eq(move),
            read_port.en.eq(move),
            read_port.addr.eq(self.event.p.row),
        ]

        # Stage 1: the weight row arrives beside its event.
        valid1 = Signal()
        event1 = Signal(layouts.event(configuration))
        weights1 = layouts.select(m, self.weights, event1.slot, "weights1")
        # Stage 2: each lane has its weight and its operand; stage 3: its product.
        flags = [Signal(layouts.EVENT_FLAGS, name=f"flags{stage}") for stage in (2, 3)]
        with m.If(move):
            m.d.sync += [valid1.eq(self.event.valid), event1.eq(self.event.p)]
            m.d.sync += [
                flags[0].add.eq(valid1 & event1.add),
                flags[0].last.eq(valid1 & event1.last),
                flags[0].raw.eq(weights1.mode == PassMode.RAW),
                flags[0].maximum.eq(weights1.mode == PassMode.MAXIMUM),
                flags[1].eq(flags[0]),
            ]
        fresh = Signal(init=1)  # the next addition starts a new sum
        with m.If(move):
            with m.If(flags[1].last):
                m.d.sync += fresh.eq(1)
            with m.Elif(flags[1].add):
                m.d.sync += fresh.eq(0)
        m.d.comb += self.sums.valid.eq(flags[1].last)

        for lane in range(lanes):
            # The count or raw sum that an elementwise, maximum or raw word has for this lane, and whether it has one.
            narrow = Array(event1.word.word_select(tile * lanes + lane, 4) for tile in range(16 // lanes))[
                event1.sub[0] if lanes < 16 else 0
            ]
            wide = event1.word.word_select(lane % 8, 8)
            raw = event1.word.word_select(lane % 2, 32)
            own = Mux(
                weights1.wide, decode_count(wide, weights1.positive, 8), decode_count(narrow, weights1.positive, 4)
            )
            mode = weights1.mode
            mine = Signal(name=f"mine{lane}")
            with m.Switch(mode):
                with m.Case(PassMode.BROADCAST):
                    m.d.comb += mine.eq(1)
                with m.Case(PassMode.RAW):
                    m.d.comb += mine.eq(event1.sub == lane // 2)
                with m.Default():
                    m.d.comb += mine.eq(~weights1.wide | (event1.sub == lane // 8))
            count = Signal(layouts.COUNT, name=f"count{lane}")
            operand = Signal(signed(16), name=f"operand{lane}")
            weight = Signal(signed(WEIGHT_BITS), name=f"weight{lane}")
            raw_sum = Signal(signed(configuration.membrane_bits), name=f"raw{lane}")
            enabled = [Signal(name=f"enabled{stage}_{lane}") for stage in (2, 3)]
            product = Signal(signed(configuration.membrane_bits), name=f"product{lane}")
            total = Signal(signed(configuration.membrane_bits), name=f"total{lane}")
            m.d.comb += count.eq(Mux(mode == PassMode.BROADCAST, event1.count, own))
            with m.If(move):
                m.d.sync += [
                    # The shift comes before the multiplication, where it is narrower.
                    operand.eq(count << weights1.shift),
                    weight.eq(read_port.data.word_select(lane, WEIGHT_BITS)),
                    raw_sum.eq(raw.as_signed()),
                    enabled[0].eq(mine & valid1 & event1.add),
                    enabled[1].eq(enabled[0]),
                    product.eq(Mux(flags[0].raw, raw_sum, Mux(flags[0].maximum, operand, operand * weight))),
                ]
                m.d.sync += total.eq(self.sums.p[lane])
            before = Mux(fresh, Mux(flags[1].maximum, _LOWEST, 0), total)
            # A maximum is among counts, so nine bits decide it.
            larger = product[:9].as_signed() > before[:9].as_signed()
            m.d.comb += self.sums.p[lane].eq(
                Mux(flags[1].maximum, Mux(enabled[1] & larger, product, before), before + Mux(enabled[1], product, 0))
            )
        return m
