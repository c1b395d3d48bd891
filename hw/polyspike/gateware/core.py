"""The whole accelerator, from link bytes to link bytes."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from polyspike.spec import Configuration
from polyspike.spec.memory import Space
from polyspike.spec.registers import BY_NAME, COUNTERS, MAGIC

from .column import Column
from .link import Link
from .sequencer import Sequencer
from .spike_memory import SpikeMemory

#: Width of the hardware counters.
_COUNTER_BITS = 40


class Core(wiring.Component):
    """Link, sequencer, columns, memories and counters of one configuration.

    Rate and latency are those of the blocks; a byte a cycle on the link at most.

    Members
    -------
    rx : ``In(stream.Signature(8))``, bytes from the host
    tx : ``Out(stream.Signature(8))``, bytes to the host
    busy : ``Out(1)``, high while a program is being executed
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        super().__init__({"rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8)), "busy": Out(1)})

    def elaborate(self, platform: object) -> Module:
        """Build the core."""
        m = Module()
        configuration = self.configuration
        m.submodules.link = link = Link(configuration)
        m.submodules.sequencer = sequencer = Sequencer(configuration)
        m.submodules.spikes = spikes = SpikeMemory(configuration)
        connect(m, flipped(self.rx), link.rx)
        connect(m, link.tx, flipped(self.tx))
        connect(m, link.run, sequencer.run)
        m.d.comb += [link.done.eq(sequencer.done), self.busy.eq(sequencer.running)]

        columns = []
        for index in range(configuration.columns):
            column = Column(configuration)
            m.submodules[f"column{index}"] = column
            columns.append(column)
            connect(m, sequencer.layer, column.layer)
            m.d.comb += column.word.eq(getattr(spikes, f"word{index}"))
            connect(m, getattr(sequencer, f"item{index}"), column.item)
            connect(m, column.request, getattr(spikes, f"read{index}"))
            connect(m, column.words, getattr(spikes, f"write{index}"))
        m.d.comb += sequencer.idle.eq(Cat(column.idle for column in columns))

        self._host(m, link, sequencer, spikes, columns)
        return m

    def _host(self, m: Module, link: Link, sequencer: Sequencer, spikes: SpikeMemory, columns: list[Column]) -> None:
        """Execute the host's reads and writes, one word each."""
        request = link.request
        space, address, word = request.p.space, request.p.address, request.p.data
        writing = request.valid & request.p.write
        # Column and program memories are written through registers: the host's word fans out to all of them.
        targets: tuple[Column | Sequencer, ...] = (*columns, sequencer)
        for target in targets:
            m.d.sync += [target.write.address.eq(address), target.write.data.eq(word)]
        m.d.sync += sequencer.write_enable.eq(writing & (space == Space.PROGRAM))
        for index, column in enumerate(columns):
            mine = writing & request.p.mask[index]
            m.d.sync += [
                column.write_weights.eq(mine & (space == Space.WEIGHTS)),
                column.write_params.eq(mine & (space == Space.PARAMS)),
            ]

        registers = self._registers(m, sequencer, columns, writing & (space == Space.REGISTERS), address)
        # A read waits until its word has been handed over; reads of the host are rare.
        waiting = Signal()
        answer = Signal(64)
        answered = Signal()
        m.d.comb += [
            spikes.host_write.valid.eq(writing & (space == Space.SPIKES)),
            spikes.host_write.p.address.eq(address),
            spikes.host_write.p.data.eq(word),
            spikes.host_write.p.mask.eq(0b11),
            spikes.host_read.valid.eq(request.valid & ~request.p.write & (space == Space.SPIKES) & ~waiting),
            spikes.host_read.p.eq(address),
            link.response.valid.eq(answered),
            link.response.p.eq(answer),
        ]
        with m.If(request.p.write):
            m.d.comb += request.ready.eq((space != Space.SPIKES) | spikes.host_write.ready)
        with m.Elif(space == Space.SPIKES):
            m.d.comb += request.ready.eq(spikes.host_read.ready & ~waiting)
        with m.Else():
            m.d.comb += request.ready.eq(~waiting)
        with m.If(request.valid & request.ready & ~request.p.write):
            m.d.sync += waiting.eq(1)
            with m.If(space != Space.SPIKES):
                m.d.sync += [answer.eq(Array(registers)[address]), answered.eq(1)]
        with m.If(spikes.host_word_valid):
            m.d.sync += [answer.eq(spikes.host_word), answered.eq(1)]
        with m.If(link.response.valid & link.response.ready):
            m.d.sync += [waiting.eq(0), answered.eq(0)]

    def _registers(
        self, m: Module, sequencer: Sequencer, columns: list[Column], writing: Signal, address: Signal
    ) -> list[object]:
        """Add the counters and return the registers' values in address order."""
        clear = Signal()
        m.d.sync += clear.eq(writing & (address == BY_NAME["COUNTERS_CLEAR"].address))
        running = Signal()
        m.d.sync += running.eq(sequencer.running)
        values: list[object] = [Const(MAGIC, 64), Const(int(self.configuration.digest, 16), 64)]
        for register in COUNTERS:
            value = Signal(_COUNTER_BITS, name=register.name.lower())
            step = Signal(range(len(columns) + 1), name=f"{value.name}_step")
            if register.name == "CYCLES":
                m.d.sync += step.eq(sequencer.running)
            else:
                source = {"EVENTS": "event", "WORDS": "word", "ZERO_WORDS": "zero_word"}.get(
                    register.name, register.name.lower()
                )
                marks = [getattr(column.activity, source) for column in columns]
                m.d.sync += step.eq(sum(marks[1:], marks[0]))
            m.d.sync += value.eq(Mux(clear, 0, value + Mux(running, step, 0)))
            values.append(value)
        values.append(Const(0, 64))
        return values
