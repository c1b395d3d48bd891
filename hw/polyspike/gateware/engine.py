"""The accelerator without its link: sequencer, columns, memories and counters, from word to word."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from polyspike.spec import Configuration
from polyspike.spec.configuration import WORD_BITS
from polyspike.spec.memory import Space
from polyspike.spec.registers import COUNTERS

from . import layouts
from .buffer import Buffer
from .column import Column
from .compact_column import CompactColumn
from .compact_memory import CompactMemory
from .link import RUN_LAYOUT, request_layout
from .registers import LIMB_BITS, Registers
from .sequencer import Sequencer
from .spike_memory import SpikeMemory
from .unpacker import Unpacker


class Engine(wiring.Component):
    """Sequencer, columns, memories and counters of one configuration.

    `request` is served whether a program is being executed or not; whoever asks knows what a run reads and writes. It
    asks only for what there is: addresses that exist, reads of `polyspike.spec.memory.READABLE` spaces, and INPUT only
    where there is an unpacker.
    Requests are executed in their order, and each is over before the next one is looked at, so a read, or a run that
    is handed over when a write was taken, sees what was written.

    Writes to space INPUT are words of payloads, see `request_layout`: the first word of each payload is marked `first`
    and has, as `mask`, the number of words to write and, as `address`, that of the first one. A payload has no end:
    the next one starts with the next `first`, and whoever asks may write to other spaces in between. Register
    INPUT_LAYOUT tells how payloads are unpacked.

    Rate: a word a cycle while nobody else wants the spike memory, a word in 18 to 35 cycles to INPUT, a read every
    READ_LATENCY + 2 cycles, 4 where the configuration is compact, and an access to a register as `Registers` says. A
    write is in the spike memory three cycles after its transfer (to INPUT, one), two where the configuration is
    compact, before a later read sees it, and in the other memories at most a cycle a column later.

    Members
    -------
    request : ``In(stream.Signature(request_layout(configuration)))``, the host's accesses, one word each
    response : ``Out(stream.Signature(64))``, one item a read, in the order of the requests
    run : ``In(stream.Signature(RUN_LAYOUT))``, programs to execute; taken when the one before is done
    busy : ``Out(1)``, high from the cycle after a run is taken until it is done
    divisor : ``Out(16)``, register UART_DIVISOR: clock cycles a bit, 0 for the board's own choice

    Parameters
    ----------
    clock_hz
        What register CLOCK_HZ reads: the frequency of domain `sync`, 0 if unknown.
    """

    def __init__(self, configuration: Configuration, clock_hz: int = 0) -> None:
        self.configuration, self.clock_hz = configuration, clock_hz
        super().__init__(
            {
                "request": In(stream.Signature(request_layout(configuration))),
                "response": Out(stream.Signature(WORD_BITS)),
                "run": In(stream.Signature(RUN_LAYOUT)),
                "busy": Out(1),
                "divisor": Out(16),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the engine."""
        m = Module()
        configuration = self.configuration
        m.submodules.sequencer = sequencer = Sequencer(configuration)
        m.submodules.spikes = spikes = (
            CompactMemory(configuration) if configuration.compact else SpikeMemory(configuration)
        )
        connect(m, flipped(self.run), sequencer.run)
        m.d.comb += self.busy.eq(~sequencer.run.ready)

        columns = []
        before = sequencer.layer
        for index in range(configuration.columns):
            column = CompactColumn(configuration) if configuration.compact else Column(configuration)
            m.submodules[f"column{index}"] = column
            columns.append(column)
            if configuration.columns == 1:
                connect(m, sequencer.layer, column.layer)
            else:
                # From column to column, so that the descriptors need no net that spans the device.
                layer = layouts.layer(configuration).create(path=(f"layer{index}",))
                for (_, _, into), (_, _, source) in zip(
                    layer.signature.flatten(layer), before.signature.flatten(before), strict=True
                ):
                    m.d.sync += into.eq(source)
                connect(m, layer, column.layer)
                before = layer
            m.d.comb += column.word.eq(getattr(spikes, f"word{index}"))
            if configuration.compact:
                m.d.comb += spikes.hold.eq(column.hold)
            else:
                m.d.comb += column.word_valid.eq(getattr(spikes, f"word{index}_valid"))
            connect(m, getattr(sequencer, f"item{index}"), column.item)
            connect(m, column.request, getattr(spikes, f"read{index}"))
            connect(m, column.words, getattr(spikes, f"write{index}"))
        # What several columns say of themselves comes from afar, and goes through registers.
        domain = self._across(m)
        domain += sequencer.idle.eq(Cat(column.idle for column in columns))

        self._host(m, sequencer, spikes, columns)
        return m

    def _across(self, m: Module) -> Any:
        """Return the domain of what goes from or to the columns: registers on the way where there are several."""
        return m.d.sync if self.configuration.columns > 1 else m.d.comb

    def _host(
        self,
        m: Module,
        sequencer: Sequencer,
        spikes: SpikeMemory | CompactMemory,
        columns: list[Column | CompactColumn],
    ) -> None:
        """Execute the host's reads and writes, one word each."""
        request, response = self.request, self.response
        written, under_way = spikes.host_write, Signal()
        if not self.configuration.compact:
            # A write waits in front of the memory, so that no path leads from its arbiter to whoever asks.
            m.submodules.written = buffer = Buffer(layouts.spike_write(self.configuration))
            connect(m, buffer.o, spikes.host_write)
            written = buffer.i
            m.d.comb += under_way.eq(buffer.o.valid)
        space, address, word = request.p.space, request.p.address, request.p.data
        writing = request.valid & request.p.write
        # A read waits until its word has been handed over; reads of the host are rare.
        waiting, answered = Signal(), Signal()
        reading = request.valid & ~request.p.write & ~waiting

        # Memories of the sequencer and of several columns are written through registers, from column to column.
        domain = self._across(m)
        domain += [sequencer.write.address.eq(address), sequencer.write.data.eq(word)]
        domain += sequencer.write_enable.eq(writing & (space == Space.PROGRAM))
        shape = data.StructLayout(
            {"write": layouts.COLUMN_WRITE, "weights": self.configuration.columns, "params": self.configuration.columns}
        )
        mask = Mux(writing, request.p.mask, 0)
        passed = Signal(shape, name="host_write")
        m.d.comb += [
            passed.write.address.eq(address),
            passed.write.data.eq(word),
            passed.weights.eq(Mux(space == Space.WEIGHTS, mask, 0)),
            passed.params.eq(Mux(space == Space.PARAMS, mask, 0)),
        ]
        for index, column in enumerate(columns):
            source, passed = passed, Signal(shape, name=f"host_write{index}")
            domain += passed.eq(source)
            m.d.comb += [
                column.write.eq(passed.write),
                column.write_weights.eq(passed.weights[index]),
                column.write_params.eq(passed.params[index]),
            ]

        m.submodules.registers = registers = Registers(self.configuration, self.clock_hz)
        m.d.comb += [
            registers.steps.eq(self._steps(m, sequencer, columns)),
            registers.access.p.write.eq(request.p.write),
            registers.access.p.address.eq(address),
            registers.access.p.data.eq(word),
            self.divisor.eq(registers.divisor),
            written.p.address.eq(address),
            written.p.data.eq(word),
            written.p.mask.eq(0b11),
            spikes.host_read.p.eq(address),
            response.valid.eq(answered),
        ]
        with m.Switch(space):
            with m.Case(Space.SPIKES):
                m.d.comb += [
                    written.valid.eq(writing),
                    spikes.host_read.valid.eq(reading & ~under_way),
                    request.ready.eq(
                        Mux(request.p.write, written.ready, spikes.host_read.ready & ~waiting & ~under_way)
                    ),
                ]
            with m.Case(Space.REGISTERS):
                m.d.comb += [
                    registers.access.valid.eq(writing | reading),
                    request.ready.eq(registers.access.ready & (request.p.write | ~waiting)),
                ]
            if self.configuration.unpacker:
                m.submodules.unpacker = unpacker = Unpacker(self.configuration)
                m.d.comb += [
                    unpacker.layout.eq(registers.layout),
                    unpacker.parts.p.data.eq(word),
                    unpacker.parts.p.address.eq(address),
                    unpacker.parts.p.count.eq(request.p.mask),
                    unpacker.parts.p.first.eq(request.p.first),
                    unpacker.words.ready.eq(written.ready),
                ]
                with m.Case(Space.INPUT):
                    m.d.comb += [
                        unpacker.parts.valid.eq(writing),
                        request.ready.eq(unpacker.parts.ready),
                        written.valid.eq(unpacker.words.valid),
                        written.p.eq(unpacker.words.p),
                    ]
            with m.Default():
                m.d.comb += request.ready.eq(1)

        with m.If(reading & request.ready):
            m.d.sync += waiting.eq(1)
        with m.If(registers.limb_valid):
            m.d.sync += response.p.eq(Cat(response.p[LIMB_BITS:], registers.limb))
        with m.If(spikes.host_word_valid):
            m.d.sync += response.p.eq(spikes.host_word)
        with m.If(spikes.host_word_valid | (registers.limb_valid & registers.access.ready)):
            m.d.sync += answered.eq(1)
        with m.If(response.valid & response.ready):
            m.d.sync += [waiting.eq(0), answered.eq(0)]

    def _steps(self, m: Module, sequencer: Sequencer, columns: list[Column | CompactColumn]) -> Cat:
        """Return how much each counter goes up."""
        # Columns say a cycle later what they did; when it has come here, it is added up in the next cycle.
        came, running, was_running = Signal(), Signal(), Signal()
        activity = Signal(data.ArrayLayout(layouts.ACTIVITY, len(columns)))
        domain = self._across(m)
        domain += [came.eq(sequencer.running), activity.eq(Cat(column.activity for column in columns))]
        m.d.sync += [running.eq(came), was_running.eq(running)]
        steps = []
        for register in COUNTERS:
            step = Signal(range(len(columns) + 1), name=f"{register.name.lower()}_step")
            if register.name == "CYCLES":
                m.d.sync += step.eq(running)
            else:
                source = {"EVENTS": "event", "WORDS": "word", "ZERO_WORDS": "zero_word"}.get(
                    register.name, register.name.lower()
                )
                marks = [getattr(activity[index], source) for index in range(len(columns))]
                m.d.sync += step.eq(sum(marks[1:], marks[0]))
            steps.append(Mux(was_running, step, 0))
        return Cat(steps)
