"""The core behind two wires: what a board with a USB-to-serial bridge needs besides its clock."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from polyspike.spec import Configuration
from polyspike.spec.uart import BASE_BAUD, DIVISOR_BITS
from polyspike.spec.uart import divisor as divisor_of

from .core import Core
from .uart import UART

#: Beats a second: what happens in fractions of a second is counted in them.
BEATS_HZ = 16

#: Beats after which the rate falls back, and for which an error is shown: half a second.
HALF_SECOND = BEATS_HZ // 2

#: Beats for which a run is shown at least: an eighth of a second.
GLIMPSE = BEATS_HZ // 8


class RateControl(wiring.Component):
    """Which divisor a UART uses: the board's, or what the host asks for as long as that works.

    `wanted` takes effect when the answer to the request that wrote it was sent; no other request may be unanswered
    then. If something arrives and half a second later no sound request has been answered, and none is being executed,
    the host and the device do not understand each other: the board's own divisor takes effect, until `wanted` has been
    0. A silent host has not lost its rate, however long it is silent.

    Latency: a cycle from `idle` to the new divisor.

    Members
    -------
    wanted : ``In(16)``, register UART_DIVISOR; 0 for the board's own
    heard : ``In(1)``, high for a cycle when something arrived, sound or not
    answering : ``In(1)``, high for a cycle when a byte of an answer is taken by the transmitter
    pending : ``In(1)``, high while a byte of an answer waits for the transmitter
    idle : ``In(1)``, high when the transmitter has sent everything
    busy : ``In(1)``, high while a request is being executed that may take long
    beat : ``In(1)``, high for a cycle `BEATS_HZ` times a second
    divisor : ``Out(16)``, clock cycles of a bit

    Parameters
    ----------
    base
        The board's own divisor.
    """

    def __init__(self, base: int) -> None:
        self.base = base
        super().__init__(
            {
                "wanted": In(DIVISOR_BITS),
                "heard": In(1),
                "answering": In(1),
                "pending": In(1),
                "idle": In(1),
                "busy": In(1),
                "beat": In(1),
                "divisor": Out(DIVISOR_BITS, init=base),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Return the hardware."""
        m = Module()
        lost = Signal()
        target = Mux((self.wanted == 0) | lost, self.base, self.wanted)
        differs = Signal()
        m.d.comb += differs.eq(target != self.divisor)

        answered = Signal()  # since the target changed
        with m.If(~differs):
            m.d.sync += answered.eq(0)
        with m.Elif(self.answering):
            m.d.sync += answered.eq(1)
        with m.If(differs & ((answered & self.idle & ~self.pending) | lost)):
            m.d.sync += self.divisor.eq(target)

        waiting = Signal()
        beats = Signal(range(HALF_SECOND + 1))
        with m.If(self.answering | self.busy):
            m.d.sync += [waiting.eq(0), beats.eq(0)]
        with m.Elif(~waiting):
            m.d.sync += [waiting.eq(self.heard), beats.eq(0)]
        with m.Elif(self.beat):
            m.d.sync += beats.eq(beats + 1)
            with m.If(beats == HALF_SECOND):
                m.d.sync += [waiting.eq(0), lost.eq(1)]
        with m.If(self.wanted == 0):
            m.d.sync += lost.eq(0)
        return m


class Stretch(wiring.Component):
    """Make a short pulse visible. Latency 1 cycle.

    Members
    -------
    trigger : ``In(1)``
    beat : ``In(1)``, high for a cycle from time to time
    shown : ``Out(1)``, high from the trigger until `beats` to `beats` + 1 beats after its end

    Parameters
    ----------
    beats
        see `shown`
    """

    trigger: In(1)
    beat: In(1)
    shown: Out(1)

    def __init__(self, beats: int) -> None:
        self.beats = beats
        super().__init__()

    def elaborate(self, platform: Any) -> Module:
        """Return the hardware."""
        m = Module()
        left = Signal(range(self.beats + 2))
        m.d.comb += self.shown.eq(left != 0)
        with m.If(self.trigger):
            m.d.sync += left.eq(self.beats + 1)
        with m.Elif(self.beat & (left != 0)):
            m.d.sync += left.eq(left - 1)
        return m


def beats(m: Module, clock_hz: int) -> Signal:
    """Return a signal that is high for a cycle `BEATS_HZ` times a second."""
    period = clock_hz // BEATS_HZ
    count = Signal(range(period))
    beat = Signal()
    # Up, and back to 0: bits that are all reset alike share a carry chain.
    m.d.comb += beat.eq(count == period - 1)
    m.d.sync += count.eq(Mux(beat, 0, count + 1))
    return beat


class SerialCore(wiring.Component):
    """Core, UART, and what the LEDs show.

    The UART starts with the divisor of `baud`. `RateControl` says when register UART_DIVISOR replaces it and when it
    comes back. Bytes are 8N1.

    Members
    -------
    rx : ``In(1)``, the pin from the host, high when idle, unsynchronized
    tx : ``Out(1)``, the pin to the host, high when idle, a register
    idle : ``Out(1)``, high while nothing is executed: steady light says that the device is configured and has a clock
    running : ``Out(1)``, high while a program is executed, and for an eighth of a second after
    error : ``Out(1)``, high for half a second after a damaged byte, or a damaged or refused frame

    Parameters
    ----------
    clock_hz
        Frequency of domain `sync`, from which all times are derived.
    baud
        The rate after reset.

    Raises
    ------
    ConfigurationError
        There is no divisor for that rate.
    """

    rx: In(1, init=1)
    tx: Out(1, init=1)
    idle: Out(1)
    running: Out(1)
    error: Out(1)

    def __init__(self, configuration: Configuration, clock_hz: int, baud: int = BASE_BAUD) -> None:
        self.configuration, self.clock_hz, self.baud = configuration, clock_hz, baud
        self.divisor = divisor_of(clock_hz, baud)
        super().__init__()

    def elaborate(self, platform: Any) -> Module:
        """Build the core and what surrounds it."""
        m = Module()
        m.submodules.core = core = Core(self.configuration, self.clock_hz)
        m.submodules.uart = uart = UART()
        m.submodules.rate = rate = RateControl(self.divisor)
        m.submodules.running = running = Stretch(GLIMPSE)
        m.submodules.error = error = Stretch(HALF_SECOND)
        wiring.connect(m, uart.rx, core.rx)
        wiring.connect(m, core.tx, uart.tx)

        beat = beats(m, self.clock_hz)
        m.d.comb += [
            uart.rx_line.eq(self.rx),
            self.tx.eq(uart.tx_line),
            uart.divisor.eq(rate.divisor),
            rate.wanted.eq(core.divisor),
            rate.heard.eq(uart.error | (uart.rx.valid & uart.rx.ready)),
            rate.answering.eq(core.tx.valid & uart.tx.ready),
            rate.pending.eq(core.tx.valid),
            rate.idle.eq(uart.idle),
            rate.busy.eq(core.busy),
            rate.beat.eq(beat),
            running.trigger.eq(core.busy),
            running.beat.eq(beat),
            error.trigger.eq(core.fault | uart.error),
            error.beat.eq(beat),
            self.running.eq(running.shown),
            self.error.eq(error.shown),
            self.idle.eq(~running.shown),
        ]
        return m
