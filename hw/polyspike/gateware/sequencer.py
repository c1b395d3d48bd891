"""The sequencer: executes a program."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from polyspike.spec import Configuration
from polyspike.spec.configuration import WORD_BITS
from polyspike.spec.instructions import (
    FIRE,
    HALT,
    OPCODE_BITS,
    OUTPUT,
    PASS_SLOTS,
    RANDOM,
    RUN,
    SHAPE,
    SOURCE,
    WEIGHTS,
    WINDOW,
    Format,
    PassMode,
    RandomValue,
)

from . import layouts
from .dealer import Dealer

#: A request to execute `count` instructions from `first` on; count 0 means until HALT.
RUN_REQUEST = data.StructLayout({"first": 16, "count": 16})

#: Products that SETUP works out, three for each pass, and the bits of their smaller factors.
_PRODUCTS = 3 * PASS_SLOTS
_FACTOR_BITS = 7

#: Cycles that SETUP takes; with pairs one more.
SETUP_CYCLES = _PRODUCTS * _FACTOR_BITS


class Sequencer(wiring.Component):
    """Fetch and execute instructions; RUN has a `Dealer` deal the layer's output positions to the columns.

    Rate: that of the dealer, an instruction in three cycles, two where the configuration is compact. Latency: RUN adds
    SETUP_CYCLES (and one with pairs), one a column and 3 more until its first position is dealt, with several columns
    4, and 5 after the last column is idle.

    Members
    -------
    run : ``In(stream.Signature(RUN_REQUEST))``
    done : ``Out(1)``, high for one cycle when a request has been executed
    running : ``Out(1)``, high while RUN is being executed
    layer : ``Out(layer(configuration))``, the descriptors
    item0, item1, ... : ``Out(stream.Signature(item(configuration)))``, one a column
    idle : ``In(columns)``, from the columns
    write : ``In(COLUMN_WRITE)``, with `write_enable`: the host's writes to the program memory
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        super().__init__(
            {
                "run": In(stream.Signature(RUN_REQUEST)),
                "done": Out(1),
                "running": Out(1),
                "layer": Out(layouts.layer(configuration)),
                "idle": In(configuration.columns),
                "write": In(layouts.COLUMN_WRITE),
                "write_enable": In(1),
            }
            | {
                f"item{column}": Out(stream.Signature(layouts.item(configuration)))
                for column in range(configuration.columns)
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the block."""
        m = Module()
        m.submodules.program = program = memory.Memory(shape=WORD_BITS, depth=self.configuration.program_depth, init=[])
        write_port, read_port = program.write_port(), program.read_port()
        counter, left, unlimited = Signal(16), Signal(16), Signal()
        m.d.comb += [
            write_port.addr.eq(self.write.address),
            write_port.data.eq(self.write.data),
            write_port.en.eq(self.write_enable),
            read_port.addr.eq(counter),
        ]

        # The instruction, in a register where memories are slow to answer.
        word = read_port.data if self.configuration.compact else Signal(WORD_BITS)

        def load(format: Format, register: Any) -> list[Any]:
            """Return the assignments that take a register's fields from the instruction."""
            fields = data.View(layouts.instruction(format), word[: layouts.instruction(format).size])
            return [getattr(register, name).eq(fields[name]) for name in register.signature.members]

        passes = layouts.passes(self.layer)
        opcode = word[:OPCODE_BITS]
        slot = data.View(layouts.instruction(SOURCE), word[: layouts.instruction(SOURCE).size]).slot
        product, factor_bit = Signal(range(_PRODUCTS)), Signal(range(_FACTOR_BITS))
        # With pairs, a product's factors are in registers and chosen a cycle ahead: the way from there is long enough.
        ahead = self.configuration.pairs

        m.submodules.dealer = dealer = Dealer(self.configuration)
        connect(m, self.layer, dealer.layer)
        items = []
        for column in range(self.configuration.columns):
            connect(m, getattr(dealer, f"item{column}"), flipped(getattr(self, f"item{column}")))
            items.append(getattr(dealer, f"item{column}").valid)

        wait = Signal(range(max(4, self.configuration.columns) + 1))
        done = Signal()  # all columns were idle in the cycle before
        start = Signal()  # a register, because it goes to every register of the dealer
        m.d.comb += dealer.start.eq(start)
        m.d.sync += start.eq(0)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.run.ready.eq(1)
                with m.If(self.run.valid):
                    m.d.sync += [
                        counter.eq(self.run.p.first),
                        left.eq(self.run.p.count),
                        unlimited.eq(self.run.p.count == 0),
                    ]
                    m.next = "FETCH"
            with m.State("FETCH"):
                with m.If((left == 0) & ~unlimited):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
                with m.Else():
                    m.d.sync += [left.eq(left - 1), product.eq(0), factor_bit.eq(_FACTOR_BITS - 1 + ahead)]
                    m.next = "EXECUTE" if self.configuration.compact else "READ"
            if not self.configuration.compact:
                with m.State("READ"):
                    m.d.sync += word.eq(read_port.data)
                    m.next = "EXECUTE"
            with m.State("EXECUTE"):
                m.d.sync += counter.eq(counter + 1)
                m.next = "FETCH"
                with m.Switch(opcode):
                    for format, register in ((SOURCE, "source"), (WINDOW, "window"), (WEIGHTS, "weights")):
                        with m.Case(format.opcode):
                            for index in range(PASS_SLOTS):
                                with m.If(slot == index):
                                    m.d.sync += load(format, getattr(passes[index], register))
                    for format, register in ((OUTPUT, "output"), (SHAPE, "extent"), (FIRE, "fire")):
                        with m.Case(format.opcode):
                            m.d.sync += load(format, getattr(self.layer, register))
                    if self.configuration.probabilistic:
                        with m.Case(RANDOM.opcode):
                            random = data.View(layouts.instruction(RANDOM), word[: layouts.instruction(RANDOM).size])
                            for which in RandomValue:
                                with m.If(random.which == which):
                                    m.d.sync += getattr(self.layer.random, which.name.lower()).eq(random.value)
                    with m.Case(RUN.opcode):
                        m.next = "SETUP"
                    with m.Case(HALT.opcode):
                        m.d.comb += self.done.eq(1)
                        m.next = "IDLE"
            with m.State("SETUP"):
                self._setup(m, product, factor_bit, ahead)
                m.d.comb += self.running.eq(1)
                m.d.sync += factor_bit.eq(factor_bit - 1)
                following = product.eq(product + 1)
                if ahead:
                    with m.If(factor_bit == ahead):
                        m.d.sync += following
                with m.If(factor_bit == 0):
                    m.d.sync += [*([] if ahead else [following]), factor_bit.eq(_FACTOR_BITS - 1)]
                    with m.If(product == _PRODUCTS - 1 + ahead):
                        m.next = "SPREAD"
            with m.State("SPREAD"):
                # The descriptors reach the last column; see Engine.
                m.d.comb += self.running.eq(1)
                m.d.sync += wait.eq(wait + 1)
                with m.If(wait == self.configuration.columns):
                    m.d.sync += start.eq(1)
                    m.next = "START"
            with m.State("START"):
                m.d.comb += self.running.eq(1)
                m.d.sync += wait.eq(0)
                m.next = "DEAL"
            with m.State("DEAL"):
                m.d.comb += self.running.eq(1)
                with m.If(dealer.done):
                    m.d.sync += wait.eq(0)
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.comb += self.running.eq(1)
                # The last item needs two cycles to show in its column.
                m.d.sync += [done.eq(self.idle.all() & ~Cat(items).any()), wait.eq(Mux(done, wait + 1, 0))]
                with m.If(wait == 3):
                    m.d.sync += wait.eq(0)
                    m.next = "FETCH"
        return m

    def _setup(self, m: Module, product: Signal, factor_bit: Signal, ahead: int) -> None:
        """Work off the products of STEPS one by one, a bit of the smaller factor a cycle, the highest one first."""
        small = Signal(_FACTOR_BITS)
        large = Signal(max(layouts.address_bits(self.configuration), layouts.row_bits(self.configuration)))
        partial, total = Signal.like(large), Signal.like(large)
        m.d.comb += total.eq((partial << 1) + Mux(small.bit_select(factor_bit, 1), large, 0))
        m.d.sync += partial.eq(Mux(factor_bit == 0, 0, total))
        factors = []
        for each in layouts.passes(self.layer):
            source, window, weights, steps = each.source, each.window, each.weights, each.steps
            broadcast = weights.mode == PassMode.BROADCAST
            words = Mux(weights.wide, weights.words << 3, weights.words << 4)
            row_tap = Mux(weights.shared, 0, Mux(broadcast, words, 1))
            m.d.sync += [
                steps.row_tap.eq(row_tap),
                steps.row_word.eq(Mux(broadcast, Mux(weights.wide, 8, 16), 0)),
            ]
            factors += [
                (window.stride_x, source.pixel_pitch, steps.x),
                (window.stride_y, source.row_pitch, steps.y),
                (window.kernel_w, steps.row_tap, steps.row_line),
            ]
        with m.Switch(product):
            for number in range(_PRODUCTS + ahead):
                with m.Case(number):
                    if number < _PRODUCTS:
                        first, second, _ = factors[number]
                        m.d["sync" if ahead else "comb"] += [small.eq(first), large.eq(second)]
                    if number >= ahead:
                        with m.If(factor_bit == 0):
                            m.d.sync += factors[number - ahead][2].eq(total)
