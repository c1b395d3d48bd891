"""The sequencer: executes a program and deals output positions to the columns."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from polyspike.spec import Configuration
from polyspike.spec.configuration import ADDRESS_BITS, WORD_BITS
from polyspike.spec.instructions import (
    FIRE,
    HALT,
    OPCODE_BITS,
    OUTPUT,
    PASS_SLOTS,
    RUN,
    SHAPE,
    SOURCE,
    WEIGHTS,
    WINDOW,
    Format,
    PassMode,
)

from . import layouts

#: A request to execute `count` instructions from `first` on; count 0 means until HALT.
RUN_REQUEST = data.StructLayout({"first": 16, "count": 16})

#: Products that SETUP works out: three for each pass.
_PRODUCTS = 3 * PASS_SLOTS


class Sequencer(wiring.Component):
    """Fetch and execute instructions; for RUN, walk over tiles and output positions and deal them to the columns.

    Position i of a tile goes to column i mod P of its group, so which column works on what never depends on timing.

    Rate: an item a cycle, an instruction in two cycles. Latency: RUN adds 6 cycles of SETUP and 2 more to its first
    item, and 1 after the last column is idle.

    Members
    -------
    run : ``In(stream.Signature(RUN_REQUEST))``
    done : ``Out(1)``, high for one cycle when a request has been executed
    running : ``Out(1)``, high while RUN is being executed
    layer : ``Out(LAYER)``, the descriptors
    item0, item1, ... : ``Out(stream.Signature(ITEM))``, one a column
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
                "layer": Out(layouts.LAYER),
                "idle": In(configuration.columns),
                "write": In(layouts.COLUMN_WRITE),
                "write_enable": In(1),
            }
            | {f"item{column}": Out(stream.Signature(layouts.ITEM)) for column in range(configuration.columns)}
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

        def load(format: Format, register: Any) -> list[Any]:
            """Return the assignments that take a register's fields from the instruction."""
            fields = data.View(layouts.instruction(format), read_port.data[: layouts.instruction(format).size])
            return [getattr(register, field.name).eq(fields[field.name]) for field in format.fields]

        passes = layouts.passes(self.layer)
        opcode = read_port.data[:OPCODE_BITS]
        slot = data.View(layouts.instruction(SOURCE), read_port.data[: layouts.instruction(SOURCE).size]).slot
        product = Signal(range(_PRODUCTS))

        for column in range(self.configuration.columns):
            port = getattr(self, f"item{column}")
            with m.If(port.ready):
                m.d.sync += port.valid.eq(0)

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
                    m.d.sync += [left.eq(left - 1), product.eq(0)]
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
                    with m.Case(RUN.opcode):
                        m.next = "SETUP"
                    with m.Case(HALT.opcode):
                        m.d.comb += self.done.eq(1)
                        m.next = "IDLE"
            with m.State("SETUP"):
                self._setup(m, product)
                m.d.comb += self.running.eq(1)
                m.d.sync += product.eq(product + 1)
                with m.If(product == _PRODUCTS - 1):
                    m.next = "START"
            walked = Signal()
            with m.State("START"):
                m.d.comb += self.running.eq(1)
                self._start(m)
                m.next = "WALK"
            with m.State("WALK"):
                m.d.comb += self.running.eq(1)
                m.d.comb += walked.eq(self._walk(m))
                with m.If(walked):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.comb += self.running.eq(1)
                waiting = Cat(getattr(self, f"item{column}").valid for column in range(self.configuration.columns))
                with m.If(self.idle.all() & ~waiting.any()):
                    m.next = "FETCH"
        return m

    def _setup(self, m: Module, product: Signal) -> None:
        """Work off the products of STEPS, one a cycle, on one multiplier."""
        small, large, result = Signal(7), Signal(16), Signal(16)
        m.d.comb += result.eq(small * large)
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
                (window.kernel_w, row_tap, steps.row_line),
            ]
        with m.Switch(product):
            for number, (first, second, into) in enumerate(factors):
                with m.Case(number):
                    m.d.comb += [small.eq(first), large.eq(second)]
                    m.d.sync += into.eq(result)

    def _walk_state(self) -> None:
        window = data.StructLayout(
            {"origin": ADDRESS_BITS, "line": ADDRESS_BITS, "y": layouts.COORDINATE, "x": layouts.COORDINATE, "row": 16}
        )
        self._windows = [Signal(window, name=f"window{index}") for index in range(PASS_SLOTS)]
        self._y, self._x = Signal(10, name="y"), Signal(10, name="x")
        self._output, self._line = Signal(ADDRESS_BITS, name="output"), Signal(ADDRESS_BITS, name="output_line")
        self._tile, self._params = Signal(11, name="first_tile"), Signal(16, name="params")
        self._member = Signal(4, name="member")

    def _begin_tile(self, m: Module) -> None:
        for walk, each in zip(self._windows, layouts.passes(self.layer), strict=True):
            origin, window = each.source.origin, each.window
            m.d.sync += [
                walk.origin.eq(origin),
                walk.line.eq(origin),
                walk.y.eq(-window.pad_y),
                walk.x.eq(-window.pad_x),
            ]
        base = self.layer.output.base
        m.d.sync += [self._y.eq(0), self._x.eq(0), self._output.eq(base), self._line.eq(base), self._member.eq(0)]

    def _start(self, m: Module) -> None:
        """Go to the first position of the first tile."""
        self._walk_state()
        self._begin_tile(m)
        passes = layouts.passes(self.layer)
        m.d.sync += [walk.row.eq(each.weights.base) for walk, each in zip(self._windows, passes, strict=True)]
        m.d.sync += [self._tile.eq(0), self._params.eq(self.layer.fire.params)]

    def _walk(self, m: Module) -> Signal:
        """Deal one position to its columns when they can take it, and go on; return whether it was the last."""
        columns, layer = self.configuration.columns, self.layer
        position_log2 = layer.extent.position_log2
        walks = list(zip(self._windows, layouts.passes(layer), strict=True))
        members = Signal(5)  # columns that divide the positions of a tile
        groups = Signal(5)  # tiles that are worked on side by side
        m.d.comb += [members.eq(1 << position_log2), groups.eq(columns >> position_log2)]

        ready = Signal(columns)
        for column in range(columns):
            port = getattr(self, f"item{column}")
            group, member = column >> position_log2, column & (members - 1)
            tile = Signal(11, name=f"tile{column}")
            mine = Signal(name=f"mine{column}")
            free = ~port.valid | port.ready
            m.d.comb += [
                tile.eq(self._tile + group),
                mine.eq((member == self._member) & (tile < layer.extent.tiles)),
                ready[column].eq(free | ~mine),
            ]
            with m.If(mine & ready.all()):
                m.d.sync += port.valid.eq(1)
                m.d.sync += [port.p.output.eq(self._output), port.p.params.eq(self._params), port.p.tile.eq(tile)]
                for index, walk in enumerate(self._windows):
                    into = port.p.window[index]
                    m.d.sync += [
                        into.origin.eq(walk.origin),
                        into.y.eq(walk.y),
                        into.x.eq(walk.x),
                        into.row.eq(walk.row),
                    ]

        last_x, last_y = self._x + 1 == layer.extent.width, self._y + 1 == layer.extent.height
        last_tile = self._tile + groups >= layer.extent.tiles
        with m.If(ready.all()):
            m.d.sync += self._member.eq(Mux(self._member + 1 == members, 0, self._member + 1))
            with m.If(~last_x):
                m.d.sync += [self._x.eq(self._x + 1), self._output.eq(self._output + layer.output.pixel_pitch)]
                for walk, each in walks:
                    m.d.sync += [walk.x.eq(walk.x + each.window.stride_x), walk.origin.eq(walk.origin + each.steps.x)]
            with m.Elif(~last_y):
                below = (self._line + layer.output.row_pitch)[:ADDRESS_BITS]
                m.d.sync += [self._x.eq(0), self._y.eq(self._y + 1), self._output.eq(below), self._line.eq(below)]
                for walk, each in walks:
                    window = each.window
                    line = (walk.line + each.steps.y)[:ADDRESS_BITS]
                    m.d.sync += [
                        walk.x.eq(-window.pad_x),
                        walk.y.eq(walk.y + window.stride_y),
                        walk.origin.eq(line),
                        walk.line.eq(line),
                    ]
            with m.Else():
                self._begin_tile(m)
                m.d.sync += [
                    self._tile.eq(self._tile + groups),
                    self._params.eq(self._params + self.configuration.lanes),
                ]
                m.d.sync += [walk.row.eq(walk.row + each.weights.tile_step) for walk, each in walks]
        return ready.all() & last_x & last_y & last_tile
