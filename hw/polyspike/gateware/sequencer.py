"""The sequencer: executes a program."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
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

#: Cycles that SETUP takes without pairs.
SETUP_CYCLES = _PRODUCTS * _FACTOR_BITS


class Sequencer(wiring.Component):
    """Fetch and execute instructions; RUN has a `Dealer` deal the layer's output positions to the columns.

    Rate: that of the dealer, an instruction in three cycles, two where the configuration is compact. Latency: RUN adds
    SETUP_CYCLES (with pairs, a cycle for each product and one for each bit of its smaller factor, and only for as many
    passes as there are), one a column and 3 more until its first position is dealt, with several columns 4, and 5 after
    the last column is idle.

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
                    m.d.sync += [left.eq(left - 1), product.eq(0), factor_bit.eq(_FACTOR_BITS - 1)]
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
                if self.configuration.pairs:
                    with m.If(self._setup_short(m, product)):
                        m.next = "SPREAD"
                    m.d.comb += self.running.eq(1)
                else:
                    self._setup(m, product, factor_bit)
                    m.d.comb += self.running.eq(1)
                    m.d.sync += factor_bit.eq(factor_bit - 1)
                    with m.If(factor_bit == 0):
                        m.d.sync += [product.eq(product + 1), factor_bit.eq(_FACTOR_BITS - 1)]
                        with m.If(product == _PRODUCTS - 1):
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

    def _setup(self, m: Module, product: Signal, factor_bit: Signal) -> None:
        """Work off the products of STEPS one by one, a bit of the smaller factor a cycle, the highest one first."""
        small = Signal(_FACTOR_BITS)
        large = self._large()
        partial, total = Signal.like(large), Signal.like(large)
        m.d.comb += total.eq((partial << 1) + Mux(small.bit_select(factor_bit, 1), large, 0))
        m.d.sync += partial.eq(Mux(factor_bit == 0, 0, total))
        with m.Switch(product):
            for number, (first, second, into) in enumerate(self._factors(m)):
                with m.Case(number):
                    m.d.comb += [small.eq(first), large.eq(second)]
                    with m.If(factor_bit == 0):
                        m.d.sync += into.eq(total)

    def _factors(self, m: Module) -> list[tuple[Value, Value, Value]]:
        """Return the smaller factor, the larger factor and the place of each product."""
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
        return factors

    def _setup_short(self, m: Module, product: Signal) -> Value:
        """Work off the products of STEPS one by one, the lowest bit of the smaller factor first, until no bit is left.

        Factors are loaded first, because the way through their choice and an adder is long. Returned is when the last
        product is finished.
        """
        small = Signal(_FACTOR_BITS)
        large = self._large()
        partial, total = Signal.like(large), Signal.like(large)
        loaded, ends = Signal(), Signal()
        m.d.comb += [
            total.eq(partial + Mux(small[0], large, 0)),
            ends.eq(loaded & (small[1:] == 0)),
        ]
        m.d.sync += [
            loaded.eq(~ends),
            partial.eq(Mux(loaded, total, 0)),
            small.eq(small >> 1),
            large.eq(large << 1),
        ]
        with m.If(ends):
            m.d.sync += product.eq(product + 1)
        with m.Switch(product):
            for number, (first, second, into) in enumerate(self._factors(m)):
                with m.Case(number):
                    with m.If(~loaded):
                        m.d.sync += [small.eq(first), large.eq(second)]
                    with m.If(ends):
                        m.d.sync += into.eq(total)
        last = Mux(self.layer.extent.passes == PASS_SLOTS, _PRODUCTS, _PRODUCTS // PASS_SLOTS) - 1
        return ends & (product == last)

    def _large(self) -> Signal:
        """Return a signal for a larger factor, or a product."""
        return Signal(max(layouts.address_bits(self.configuration), layouts.row_bits(self.configuration)), name="large")
