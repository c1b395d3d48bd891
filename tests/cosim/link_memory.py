"""A Link with a memory behind it: the smallest design that can be talked to over the link."""

from amaranth import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from polyspike.gateware.link import Link
from polyspike.spec import Configuration
from polyspike.spec.memory import Space
from polyspike.spec.registers import BY_NAME


class LinkMemory(wiring.Component):
    """SPIKES is a memory; a RUN takes `count` cycles more than one, which CYCLES counts. EVENTS counts the runs."""

    rx: In(stream.Signature(8))
    tx: Out(stream.Signature(8))

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        super().__init__()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.link = link = Link(self.configuration)
        wiring.connect(m, wiring.flipped(self.rx), link.rx)
        wiring.connect(m, link.tx, wiring.flipped(self.tx))

        m.submodules.memory = memory = Memory(shape=64, depth=self.configuration.spike_depth, init=[])
        write, read = memory.write_port(), memory.read_port()
        request = link.request.payload
        taken = Signal()
        register = Signal(64)
        spikes = request.space == Space.SPIKES
        from_memory = Signal()
        cycles = Signal(64)
        runs = Signal(64)
        m.d.comb += [
            write.addr.eq(request.address),
            write.data.eq(request.data),
            write.en.eq(link.request.valid & link.request.ready & request.write & spikes),
            read.addr.eq(request.address),
            read.en.eq(link.request.ready),
            link.request.ready.eq(~link.response.valid | link.response.ready),
            link.response.payload.eq(Mux(from_memory, read.data, register)),
            link.response.valid.eq(taken),
        ]
        with m.If(link.request.ready):
            m.d.sync += [
                taken.eq(link.request.valid & ~request.write),
                from_memory.eq(spikes),
                register.eq(0),
            ]
            with m.If(request.address == BY_NAME["CYCLES"].address):
                m.d.sync += register.eq(cycles)
            with m.If(request.address == BY_NAME["EVENTS"].address):
                m.d.sync += register.eq(runs)

        left = Signal(16)
        running = Signal()
        m.d.comb += [link.run.ready.eq(~running), link.busy.eq(running)]
        with m.If(running):
            m.d.sync += [left.eq(left - 1), cycles.eq(cycles + 1), running.eq(left != 0)]
        with m.Elif(link.run.valid):
            m.d.sync += [left.eq(link.run.payload.count), running.eq(1), runs.eq(runs + 1)]
        return m
