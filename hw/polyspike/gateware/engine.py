"""The accelerator without its link: sequencer, columns, memories and counters, from word to word."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from polyspike.spec import Configuration
from polyspike.spec.configuration import WORD_BITS
from polyspike.spec.memory import Space
from polyspike.spec.registers import BY_NAME, COUNTERS, MAGIC, InputLayout

from .column import Column
from .link import RUN_LAYOUT, request_layout
from .sequencer import Sequencer
from .serial_column import SerialColumn
from .spike_memory import SpikeMemory

#: Width of the hardware counters.
_COUNTER_BITS = 40


class Engine(wiring.Component):
    """Sequencer, columns, memories and counters of one configuration.

    `request` is served whether a program is being executed or not; whoever asks knows what a run reads and writes.

    Rate: a word a cycle while nobody else wants the spike memory, a read every 4 cycles at most. A write is in the
    spike memory in the cycle after its transfer, and in the other memories a cycle later.

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
        m.submodules.spikes = spikes = SpikeMemory(configuration)
        connect(m, flipped(self.run), sequencer.run)
        m.d.comb += self.busy.eq(~sequencer.run.ready)

        columns = []
        for index in range(configuration.columns):
            column = SerialColumn(configuration) if configuration.serial else Column(configuration)
            m.submodules[f"column{index}"] = column
            columns.append(column)
            connect(m, sequencer.layer, column.layer)
            m.d.comb += column.word.eq(getattr(spikes, f"word{index}"))
            if configuration.serial:
                m.d.comb += spikes.hold.eq(column.hold)
            connect(m, getattr(sequencer, f"item{index}"), column.item)
            connect(m, column.request, getattr(spikes, f"read{index}"))
            connect(m, column.words, getattr(spikes, f"write{index}"))
        m.d.comb += sequencer.idle.eq(Cat(column.idle for column in columns))

        self._host(m, sequencer, spikes, columns)
        return m

    def _host(self, m: Module, sequencer: Sequencer, spikes: SpikeMemory, columns: list[Column]) -> None:
        """Execute the host's reads and writes, one word each."""
        request, response = self.request, self.response
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

        registers = self._registers(m, sequencer, columns, writing & (space == Space.REGISTERS), address, word)
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
            response.valid.eq(answered),
            response.p.eq(answer),
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
        with m.If(response.valid & response.ready):
            m.d.sync += [waiting.eq(0), answered.eq(0)]

    def _registers(
        self, m: Module, sequencer: Sequencer, columns: list[Column], writing: Signal, address: Signal, word: Signal
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
        layout = Signal(sum(width for _, width in InputLayout.FIELDS))
        for register, value in (("UART_DIVISOR", self.divisor), ("INPUT_LAYOUT", layout)):
            with m.If(writing & (address == BY_NAME[register].address)):
                m.d.sync += value.eq(word)
        values += [Const(0, 64), Const(self.clock_hz, 64), self.divisor, layout]
        return values
