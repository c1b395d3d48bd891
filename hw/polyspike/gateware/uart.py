"""A UART: bytes to and from two wires, 8 data bits, no parity, one stop bit, at a rate that can be changed.

The rate is given as a divisor, the clock cycles of a bit; `polyspike.spec.uart` chooses one and tells its error.
"""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from polyspike.spec.uart import DIVISOR_BITS, FRAME_BITS


class UARTReceiver(wiring.Component):
    """From a line to bytes.

    A falling edge starts a byte if the line is still low half a bit later; every bit is sampled in its middle, with one
    cycle of uncertainty for the edge. A byte without a stop bit is dropped, and the next one starts with an edge, so a
    line that stays low (a break) costs one error. So does a byte that arrives while another one waits at `rx`.

    Latency: 3 cycles from the middle of the stop bit to `rx.valid`. Rate: a byte every 9.5 bits, and the next start
    bit may follow in the second half of a stop bit.

    Members
    -------
    line : ``In(1)``, the pin, high when idle; it needs no relation to the clock
    divisor : ``In(16)``, clock cycles of a bit, from 4 on; where it changes within a byte, that byte is damaged
    rx : ``Out(stream.Signature(8))``, bytes
    error : ``Out(1)``, high for a cycle when a byte was dropped
    """

    line: In(1, init=1)
    divisor: In(DIVISOR_BITS)
    rx: Out(stream.Signature(8))
    error: Out(1)

    def elaborate(self, platform: Any) -> Module:
        """Return the hardware."""
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.line, line, init=1)
        before = Signal(init=1)
        m.d.sync += before.eq(line)

        active = Signal()
        bits = Signal(range(FRAME_BITS))  # bits sampled so far; 0 within the start bit
        byte = Signal(8)
        # Counts from 1, so that it equals the divisor in the last cycle of a bit. From the edge to the middle of the
        # start bit it counts twos, and the lowest bit is left out: half a bit, without a multiplexer for that.
        count = Signal(DIVISOR_BITS, init=1)
        start = bits == 0
        sample = (count[1:] == self.divisor[1:]) & (start | (count[0] == self.divisor[0]))

        m.d.sync += count.eq(count + Mux(start, 2, 1))
        with m.If(~active | sample):
            # The edge was seen a cycle ago when counting begins.
            m.d.sync += count.eq(Mux(active, 1, 3))

        with m.If(self.rx.ready):
            m.d.sync += self.rx.valid.eq(0)
        with m.If(~active):
            m.d.sync += [bits.eq(0), active.eq(before & ~line)]
        with m.Elif(sample):
            m.d.sync += [bits.eq(bits + 1), byte.eq(Cat(byte[1:], line))]
            with m.If(start & line):  # a glitch, no start bit
                m.d.sync += active.eq(0)
            with m.If(bits == FRAME_BITS - 1):
                m.d.sync += active.eq(0)
                with m.If(line & (~self.rx.valid | self.rx.ready)):
                    m.d.sync += [self.rx.valid.eq(1), self.rx.payload.eq(byte)]
                with m.Else():
                    m.d.comb += self.error.eq(1)
        return m


class UARTTransmitter(wiring.Component):
    """From bytes to a line.

    Latency: 1 cycle from a byte's transfer to its start bit. Rate: a byte every 10 bits, without a gap where the next
    byte is offered by the last cycle of a stop bit.

    Members
    -------
    tx : ``In(stream.Signature(8))``, bytes
    divisor : ``In(16)``, clock cycles of a bit; it must change only while `idle`
    line : ``Out(1)``, the pin, high when idle; a register, so it has no glitches
    idle : ``Out(1)``, high when everything was sent, stop bit included
    """

    tx: In(stream.Signature(8))
    divisor: In(DIVISOR_BITS)
    line: Out(1, init=1)
    idle: Out(1)

    def elaborate(self, platform: Any) -> Module:
        """Return the hardware."""
        m = Module()
        # What is on the line in bit 0, then what follows; the stop bit is the highest one, and zeros move in behind it.
        frame = Signal(FRAME_BITS, init=1)
        idle = Signal(init=1)
        # Counts from 2, so that it equals the divisor in the last cycle but one of a bit. `done` is set in the last
        # one, and in that of a stop bit `final`.
        count = Signal(DIVISOR_BITS, init=2)
        done, final = Signal(), Signal()
        stop = frame[1:] == 0

        m.d.comb += [
            self.line.eq(frame[0]),
            self.idle.eq(idle),
            self.tx.ready.eq(idle | final),
        ]
        m.d.sync += count.eq(count + 1)
        m.d.sync += [done.eq(count == self.divisor), final.eq((count == self.divisor) & stop)]
        with m.If(idle | done):
            m.d.sync += [count.eq(2), done.eq(0), final.eq(0)]
        with m.If(self.tx.ready):
            m.d.sync += idle.eq(~self.tx.valid)
            with m.If(self.tx.valid):
                m.d.sync += frame.eq(Cat(0, self.tx.payload, 1))
        with m.Elif(done):
            m.d.sync += frame.eq(frame >> 1)
        return m


class UART(wiring.Component):
    """Receiver and transmitter with one divisor.

    Members
    -------
    rx_line, tx_line : ``In(1)``, ``Out(1)``, the pins
    divisor : ``In(16)``, clock cycles of a bit, from 4 on
    rx : ``Out(stream.Signature(8))``, bytes received
    tx : ``In(stream.Signature(8))``, bytes to send
    idle : ``Out(1)``, high when everything was sent
    error : ``Out(1)``, high for a cycle when a received byte was dropped
    """

    rx_line: In(1, init=1)
    tx_line: Out(1, init=1)
    divisor: In(DIVISOR_BITS)
    rx: Out(stream.Signature(8))
    tx: In(stream.Signature(8))
    idle: Out(1)
    error: Out(1)

    def elaborate(self, platform: Any) -> Module:
        """Return the hardware."""
        m = Module()
        m.submodules.receiver = receiver = UARTReceiver()
        m.submodules.transmitter = transmitter = UARTTransmitter()
        wiring.connect(m, receiver.rx, wiring.flipped(self.rx))
        wiring.connect(m, wiring.flipped(self.tx), transmitter.tx)
        m.d.comb += [
            receiver.line.eq(self.rx_line),
            receiver.divisor.eq(self.divisor),
            transmitter.divisor.eq(self.divisor),
            self.tx_line.eq(transmitter.line),
            self.idle.eq(transmitter.idle),
            self.error.eq(receiver.error),
        ]
        return m
