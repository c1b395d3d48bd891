"""The accelerator behind AXI: AXI4-Lite for control, AXI4-Stream for words, registers as `polyspike.spec.axi` says."""

from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Const, Module, Mux, ResetInserter, ResetSignal, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect
from amaranth.utils import bits_for

from polyspike.spec import Configuration, axi
from polyspike.spec.axi import Access
from polyspike.spec.configuration import ARCHITECTURE_VERSION, WORD_BITS
from polyspike.spec.memory import Space, depth
from polyspike.spec.registers import BY_NAME as ENGINE_REGISTERS
from polyspike.spec.registers import COUNTERS, InputLayout

from .buffer import Buffer
from .engine import Engine
from .link import RUN_LAYOUT, request_layout

_OKAY, _SLVERR = 0b00, 0b10

#: Bits of a register's number: byte offsets without the two lowest bits.
_INDEX_BITS = axi.OFFSET_BITS - 2

#: A word of a stream, and whether it is the last one of its packet.
STREAM_WORD = data.StructLayout({"data": WORD_BITS, "last": 1})

#: A write of the AXI4-Lite interface.
REGISTER_WRITE = data.StructLayout({"index": _INDEX_BITS, "data": data.ArrayLayout(8, 4), "strobe": 4})

#: What can be commanded, and is then in progress: an input transfer, a run, an output transfer.
KINDS = data.StructLayout({"in": 1, "run": 1, "out": 1})

#: What a command needs to know, copied when it is given.
SETTINGS = data.StructLayout(
    {
        "space": axi.field("IN_TARGET", "space").width,
        "ahead": 1,
        "mask": 16,
        "in_address": 32,
        "in_count": 32,
        "in_layout": sum(width for _, width in InputLayout.FIELDS),
        "run_first": 32,
        "run_count": 32,
        "out_address": 32,
        "out_count": 32,
    }
)


class AxiLite(wiring.Component):
    """AXI4-Lite to one write and one read at a time, each of which is answered in the cycle it is taken in.

    Every output towards the bus is a register. Address and data of a write may come in any order. Rate: a write or
    read every 3 cycles.

    Members
    -------
    awaddr, awvalid, awready, ... : the bus
    write : ``Out(stream.Signature(REGISTER_WRITE))``; write_error : ``In(1)``, valid with `write.ready`
    read : ``Out(stream.Signature(10))``, a register's number; read_data : ``In(32)`` and read_error : ``In(1)``, valid
        with `read.ready`
    """

    def __init__(self) -> None:
        super().__init__(
            axi_lite()
            | {
                "write": Out(stream.Signature(REGISTER_WRITE)),
                "write_error": In(1),
                "read": Out(stream.Signature(_INDEX_BITS)),
                "read_data": In(32),
                "read_error": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the block."""
        m = Module()
        with m.If(self.awvalid & self.awready):
            m.d.sync += [self.awready.eq(0), self.write.p.index.eq(self.awaddr[2:])]
        with m.If(self.wvalid & self.wready):
            m.d.sync += [self.wready.eq(0), self.write.p.data.eq(self.wdata), self.write.p.strobe.eq(self.wstrb)]
        m.d.comb += self.write.valid.eq(~self.awready & ~self.wready & ~self.bvalid)
        with m.If(self.write.valid & self.write.ready):
            m.d.sync += [self.bvalid.eq(1), self.bresp.eq(Mux(self.write_error, _SLVERR, _OKAY))]
        with m.If(self.bvalid & self.bready):
            m.d.sync += [self.bvalid.eq(0), self.awready.eq(1), self.wready.eq(1)]

        with m.If(self.arvalid & self.arready):
            m.d.sync += [self.arready.eq(0), self.read.p.eq(self.araddr[2:])]
        m.d.comb += self.read.valid.eq(~self.arready & ~self.rvalid)
        with m.If(self.read.valid & self.read.ready):
            m.d.sync += [
                self.rvalid.eq(1),
                self.rdata.eq(Mux(self.read_error, 0, self.read_data)),
                self.rresp.eq(Mux(self.read_error, _SLVERR, _OKAY)),
            ]
        with m.If(self.rvalid & self.rready):
            m.d.sync += [self.rvalid.eq(0), self.arready.eq(1)]
        return m


def axi_lite(prefix: str = "") -> dict[str, Any]:
    """Return the members of an AXI4-Lite subordinate's interface."""
    members = {
        "awaddr": In(axi.OFFSET_BITS),
        "awvalid": In(1),
        "awready": Out(1, init=1),
        "wdata": In(32),
        "wstrb": In(4),
        "wvalid": In(1),
        "wready": Out(1, init=1),
        "bresp": Out(2),
        "bvalid": Out(1),
        "bready": In(1),
        "araddr": In(axi.OFFSET_BITS),
        "arvalid": In(1),
        "arready": Out(1, init=1),
        "rdata": Out(32),
        "rresp": Out(2),
        "rvalid": Out(1),
        "rready": In(1),
    }
    return {prefix + name: member for name, member in members.items()}


class Transfers(wiring.Component):
    """Carries out commands: streams to memory, runs, memory to stream; and accesses to the engine's registers.

    Rate: a word a cycle in, a word every 8 cycles out.

    Members
    -------
    start : ``In(KINDS)``, commands, each given only while `busy` says that none of its kind is in progress
    settings : ``In(SETTINGS)``, of the commands that are given; they must make sense
    busy : ``Out(KINDS)``, from the cycle after a command on
    done : ``Out(KINDS)``, pulses; short : ``Out(1)``, pulses when TLAST ends an input transfer early
    i : ``In(stream.Signature(STREAM_WORD))``; o : ``Out(stream.Signature(STREAM_WORD))``
    clear : ``In(stream.Signature(0))``, set the counters to zero; not while a run is in progress
    read : ``In(stream.Signature(4))``, an engine register's address; answer : ``Out(64)``, valid with `read.ready`
    request, response, run : to `Engine`; engine_busy : ``In(1)``, from its `busy`
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        super().__init__(
            {
                "start": In(KINDS),
                "settings": In(SETTINGS),
                "busy": Out(KINDS),
                "done": Out(KINDS),
                "short": Out(1),
                "i": In(stream.Signature(STREAM_WORD)),
                "o": Out(stream.Signature(STREAM_WORD)),
                "clear": In(stream.Signature(0)),
                "read": In(stream.Signature(bits_for(max(each.address for each in COUNTERS)))),
                "answer": Out(WORD_BITS),
                "request": Out(stream.Signature(request_layout(configuration))),
                "response": In(stream.Signature(WORD_BITS)),
                "run": Out(stream.Signature(RUN_LAYOUT)),
                "engine_busy": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the block."""
        m = Module()
        start, busy, settings = self.start, self.busy, self.settings
        # For each kind, which of the others it has to wait for: those that were commanded before it.
        waits = {kind: Signal(KINDS, name=f"{kind}_waits") for kind in ("in", "run", "out")}
        free = {kind: ~waits[kind].as_value().any() for kind in waits}
        for kind, wait in waits.items():
            m.d.sync += wait.eq(wait.as_value() & busy.as_value())
            with m.If(start[kind]):
                m.d.sync += [
                    wait["in"].eq((busy["in"] | start["in"]) if kind != "in" else 0),
                    wait["run"].eq((busy["run"] | (start["run"] if kind == "out" else 0)) if kind != "run" else 0),
                    wait["out"].eq(busy["out"] if kind != "out" else 0),
                ]
                if kind == "in":
                    with m.If(settings.ahead):
                        m.d.sync += wait.eq(0)
                m.d.sync += busy[kind].eq(1)
            with m.If(self.done[kind]):
                m.d.sync += busy[kind].eq(0)

        # One register of requests, which all share; a read is asked when there is a place for its answer.
        request = self.request
        reading, for_bus = Signal(), Signal()  # a read is on its way, and whether it is the bus's
        room = Signal()
        m.d.comb += room.eq(~request.valid | request.ready)
        clearing = Signal()  # takes a while, in which nothing may count
        with m.If(request.ready):
            m.d.sync += [request.valid.eq(0), clearing.eq(0)]
        self._runs(m, free["run"] & ~clearing)

        space, mask, layout = (Signal.like(settings[name]) for name in ("space", "mask", "in_layout"))
        in_address, in_left, first = Signal.like(request.p.address), Signal(32), Signal()
        out_address, out_left = Signal.like(request.p.address), Signal(32)
        unknown = Signal()  # the engine does not know this input's layout yet
        with m.If(room):
            with m.If(self.clear.valid):
                m.d.comb += self.clear.ready.eq(1)
                address = ENGINE_REGISTERS["COUNTERS_CLEAR"].address
                m.d.sync += [*self._ask(1, Space.REGISTERS, 0, address, 0), clearing.eq(1)]
            with m.Elif(self.read.valid & ~reading):
                m.d.sync += self._ask(0, Space.REGISTERS, 0, self.read.p, 0)
                m.d.sync += [reading.eq(1), for_bus.eq(1)]
            with m.Elif(busy["out"] & free["out"] & (out_left != 0) & ~self.o.valid & ~reading):
                m.d.sync += self._ask(0, Space.SPIKES, 0, out_address, 0)
                m.d.sync += [out_address.eq(out_address + 1), out_left.eq(out_left - 1), reading.eq(1), for_bus.eq(0)]
            with m.Elif(busy["in"] & free["in"] & unknown):
                address = ENGINE_REGISTERS["INPUT_LAYOUT"].address
                m.d.sync += [*self._ask(1, Space.REGISTERS, 0, address, layout), unknown.eq(0)]
            with m.Elif(busy["in"] & free["in"] & (in_left != 0) & self.i.valid):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += [*self._ask(1, space, mask, in_address, self.i.p.data), request.p.first.eq(first)]
                m.d.sync += [in_address.eq(in_address + 1), in_left.eq(in_left - 1), first.eq(0)]
                with m.If(self.i.p.last & (in_left != 1)):
                    m.d.comb += self.short.eq(1)
                    m.d.sync += in_left.eq(0)
        # Input is done when its last word has left the register of requests.
        m.d.comb += self.done["in"].eq(busy["in"] & (in_left == 0) & ~request.valid)
        with m.If(start["in"]):
            m.d.sync += [
                space.eq(settings.space),
                mask.eq(settings.mask),
                in_address.eq(settings.in_address),
                in_left.eq(settings.in_count),
                first.eq(1),
            ]
            if self.configuration.unpacker:
                m.d.sync += [layout.eq(settings.in_layout), unknown.eq(settings.space == Space.INPUT)]

        m.d.comb += [self.response.ready.eq(1), self.answer.eq(self.response.p)]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += self.o.valid.eq(0)
            m.d.comb += self.done["out"].eq(self.o.p.last)
        with m.If(self.response.valid):
            m.d.sync += reading.eq(0)
            with m.If(for_bus):
                m.d.comb += self.read.ready.eq(1)
            with m.Else():
                m.d.sync += [self.o.valid.eq(1), self.o.p.data.eq(self.response.p), self.o.p.last.eq(out_left == 0)]
        with m.If(start["out"]):
            m.d.sync += [out_address.eq(settings.out_address), out_left.eq(settings.out_count)]
        return m

    def _runs(self, m: Module, free: Any) -> None:
        """Start a run when nothing before it is in progress, and find out when it is done."""
        run, taken = self.run, Signal()
        m.d.comb += [
            run.valid.eq(self.busy["run"] & free & ~taken),
            self.done["run"].eq(taken & ~self.engine_busy),
        ]
        with m.If(run.valid & run.ready):
            m.d.sync += taken.eq(1)
        with m.If(self.done["run"]):
            m.d.sync += taken.eq(0)
        with m.If(self.start["run"]):
            m.d.sync += [run.p.first.eq(self.settings.run_first), run.p.count.eq(self.settings.run_count)]

    def _ask(self, write: int, space: Any, mask: Any, address: Any, word: Any) -> list[Any]:
        """Return the assignments that put a request into its register."""
        p = self.request.p
        values = {"write": write, "space": space, "mask": mask, "address": address, "data": word}
        return [self.request.valid.eq(1), *(p[name].eq(value) for name, value in values.items())]


class AxiEngine(wiring.Component):
    """`Engine` behind AXI4-Lite and AXI4-Stream: what `polyspike.spec.axi` describes.

    Every output comes from a register. Streams move a word a cycle in and one every 8 cycles out. Has a clock domain of
    its own, `sync` on the inside.

    Members
    -------
    aclk, aresetn : ``In(1)``, clock, and synchronous reset, active low
    s_axil_awaddr ... : AXI4-Lite subordinate, 12 address and 32 data bits
    s_axis_tdata, s_axis_tlast, s_axis_tvalid, s_axis_tready : AXI4-Stream receiver, 64 bits
    m_axis_tdata, m_axis_tlast, m_axis_tvalid, m_axis_tready : AXI4-Stream transmitter, 64 bits
    irq : ``Out(1)``, interrupt, high while an enabled bit of IRQ_STATUS is set

    Parameters
    ----------
    clock_hz
        What register CLOCK_HZ reads: the frequency of `aclk`, 0 if unknown.
    """

    def __init__(self, configuration: Configuration, clock_hz: int = 0) -> None:
        self.configuration, self.clock_hz = configuration, clock_hz
        super().__init__(
            {"aclk": In(1), "aresetn": In(1)}
            | axi_lite("s_axil_")
            | {
                "s_axis_tdata": In(WORD_BITS),
                "s_axis_tlast": In(1),
                "s_axis_tvalid": In(1),
                "s_axis_tready": Out(1),
                "m_axis_tdata": Out(WORD_BITS),
                "m_axis_tlast": Out(1),
                "m_axis_tvalid": Out(1),
                "m_axis_tready": In(1),
                "irq": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the accelerator."""
        m = Module()
        m.domains.sync = ClockDomain(local=True)
        m.d.comb += [ClockSignal().eq(self.aclk), ResetSignal().eq(~self.aresetn)]

        # COMMAND.reset resets everything but the registers.
        reset = Signal()
        engine = Engine(self.configuration, self.clock_hz)
        transfers = Transfers(self.configuration)
        skid = Buffer(STREAM_WORD)
        for name, block in (("engine", engine), ("transfers", transfers), ("skid", skid)):
            m.submodules[name] = ResetInserter(reset)(block)
        connect(m, transfers.request, engine.request)
        connect(m, engine.response, transfers.response)
        connect(m, transfers.run, engine.run)
        connect(m, skid.o, transfers.i)
        m.d.comb += [
            transfers.engine_busy.eq(engine.busy),
            skid.i.p.data.eq(self.s_axis_tdata),
            skid.i.p.last.eq(self.s_axis_tlast),
            skid.i.valid.eq(self.s_axis_tvalid),
            self.s_axis_tready.eq(skid.i.ready),
            self.m_axis_tdata.eq(transfers.o.p.data),
            self.m_axis_tlast.eq(transfers.o.p.last),
            self.m_axis_tvalid.eq(transfers.o.valid),
            transfers.o.ready.eq(self.m_axis_tready),
        ]

        m.submodules.bus = bus = AxiLite()
        for name, member in axi_lite().items():
            inner, outer = getattr(bus, name), getattr(self, f"s_axil_{name}")
            m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
        registers = {
            register.name: Signal(32, name=register.name.lower())
            for register in axi.REGISTERS
            if register.access in (Access.READ_WRITE, Access.CLEAR)
        }
        self._write(m, bus, transfers, registers, reset)
        self._read(m, bus, transfers, registers)
        m.d.sync += self.irq.eq((registers["IRQ_STATUS"] & registers["IRQ_ENABLE"]).any())
        return m

    def _write(
        self, m: Module, bus: AxiLite, transfers: Transfers, registers: dict[str, Signal], reset: Signal
    ) -> None:
        """Write registers, and give commands."""
        target = registers["IN_TARGET"]
        settings = transfers.settings
        m.d.comb += [
            getattr(settings, name).eq(_part(target, "IN_TARGET", name)) for name in ("space", "ahead", "mask")
        ]
        for name in ("in_address", "in_count", "in_layout", "run_first", "run_count", "out_address", "out_count"):
            m.d.comb += getattr(settings, name).eq(registers[name.upper()])

        # Writes are 3 cycles apart, so a command finds what was written before it checked, in two steps.
        in_words = settings.in_count
        if self.configuration.unpacker:
            in_words = Mux(settings.space == Space.INPUT, settings.mask, settings.in_count)
        limit, known = Signal(33), Signal()
        with m.Switch(settings.space):
            for space in axi.TARGETS:
                with m.Case(space):
                    m.d.comb += limit.eq(depth(self.configuration, space))
                    m.d.sync += known.eq(1 if space in axi.AHEAD else ~settings.ahead)
            with m.Default():
                m.d.sync += known.eq(0)
        fits = {}
        for kind, first, size, some, end in (
            ("in", settings.in_address, in_words, settings.in_count.any(), limit),
            ("run", settings.run_first, settings.run_count + (settings.run_count == 0), 1, Space.PROGRAM),
            ("out", settings.out_address, settings.out_count, settings.out_count.any(), Space.SPIKES),
        ):
            last, exists = Signal(34, name=f"{kind}_last"), Signal(name=f"{kind}_exists")
            fits[kind] = Signal(name=f"{kind}_fits")
            if isinstance(end, Space):
                end = depth(self.configuration, end)
            m.d.sync += [last.eq(first + size), exists.eq(some)]
            m.d.sync += fits[kind].eq((last <= end) & exists & (known if kind == "in" else 1))

        index, value = bus.write.p.index, bus.write.p.data
        strobed = Signal(data.ArrayLayout(8, 4))
        m.d.comb += [strobed[byte].eq(Mux(bus.write.p.strobe[byte], value[byte], 0)) for byte in range(4)]
        status = registers["IRQ_STATUS"]
        m.d.comb += bus.write_error.eq(1)
        with m.If(bus.write.valid):
            with m.Switch(index):
                for name, register in registers.items():
                    with m.Case(axi.BY_NAME[name].offset // 4):
                        m.d.comb += [bus.write.ready.eq(1), bus.write_error.eq(0)]
                        if name == "IRQ_STATUS":
                            m.d.sync += status.eq(status & ~strobed.as_value())
                        else:
                            kept = sum((each.mask for each in axi.BY_NAME[name].fields), 0) or (1 << 32) - 1
                            for byte in range(4):
                                with m.If(bus.write.p.strobe[byte]):
                                    m.d.sync += register.word_select(byte, 8).eq(
                                        value[byte] & (kept >> 8 * byte & 0xFF)
                                    )
                with m.Case(axi.BY_NAME["COMMAND"].offset // 4):
                    flag = {each.name: strobed.as_value()[each.low] for each in axi.BY_NAME["COMMAND"].fields}
                    refused = Signal()
                    for kind in fits:
                        with m.If(flag[kind] & (transfers.busy[kind] | ~fits[kind])):
                            m.d.comb += refused.eq(1)
                    with m.If(flag["clear"] & transfers.busy["run"]):
                        m.d.comb += refused.eq(1)
                    m.d.comb += [
                        transfers.clear.valid.eq(flag["clear"] & ~refused),
                        bus.write.ready.eq(refused | ~flag["clear"] | transfers.clear.ready),
                        bus.write_error.eq(refused),
                    ]
                    with m.If(bus.write.ready & ~refused):
                        m.d.comb += [transfers.start[kind].eq(flag[kind]) for kind in fits]
                        m.d.sync += reset.eq(flag["reset"])
                    with m.If(refused):
                        m.d.sync += status[axi.field("IRQ_STATUS", "refused").low].eq(1)
                with m.Default():
                    m.d.comb += bus.write.ready.eq(1)
        with m.If(reset):
            m.d.sync += reset.eq(0)
        for kind in fits:
            with m.If(transfers.done[kind]):
                m.d.sync += status[axi.field("IRQ_STATUS", kind).low].eq(1)
        with m.If(transfers.short):
            m.d.sync += status[axi.field("IRQ_STATUS", "short").low].eq(1)

    def _read(self, m: Module, bus: AxiLite, transfers: Transfers, registers: dict[str, Signal]) -> None:
        """Read registers. Those of the engine are asked for, the others are here."""
        digest = int(self.configuration.digest, 16)
        values: dict[str, Any] = {
            "ID": Const(axi.ID, 32),
            "VERSION": Const(ARCHITECTURE_VERSION, 32),
            "DIGEST_LO": Const(digest & 0xFFFF_FFFF, 32),
            "DIGEST_HI": Const(digest >> 32, 32),
            "CLOCK_HZ": Const(self.clock_hz, 32),
            "COMMAND": Const(0, 32),
            "STATUS": transfers.busy.as_value(),
        } | registers
        upper = Signal(32)
        m.d.comb += bus.read_error.eq(1)
        with m.If(bus.read.valid):
            with m.Switch(bus.read.p):
                for name, value in values.items():
                    with m.Case(axi.BY_NAME[name].offset // 4):
                        m.d.comb += [bus.read.ready.eq(1), bus.read_error.eq(0), bus.read_data.eq(value)]
                for counter in COUNTERS:
                    with m.Case(axi.BY_NAME[f"{counter.name}_LO"].offset // 4):
                        m.d.comb += [
                            transfers.read.valid.eq(1),
                            transfers.read.p.eq(counter.address),
                            bus.read.ready.eq(transfers.read.ready),
                            bus.read_error.eq(0),
                            bus.read_data.eq(transfers.answer[:32]),
                        ]
                        with m.If(transfers.read.ready):
                            m.d.sync += upper.eq(transfers.answer[32:])
                    with m.Case(axi.BY_NAME[f"{counter.name}_HI"].offset // 4):
                        m.d.comb += [bus.read.ready.eq(1), bus.read_error.eq(0), bus.read_data.eq(upper)]
                with m.Default():
                    m.d.comb += bus.read.ready.eq(1)


def _part(register: Any, name: str, field: str) -> Any:
    """Return a field's bits of a register."""
    each = axi.field(name, field)
    return register[each.low : each.low + each.width]
