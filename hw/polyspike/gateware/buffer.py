"""A place to wait in a stream, so that no path goes through it."""

from typing import Any

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out


def connect_queue(m: Module, before: Any, queue: fifo.FIFOInterface, after: Any) -> None:
    """Let the items of the stream `before` wait in a library's queue and leave it by the stream `after`."""
    m.d.comb += [
        queue.w_data.eq(before.p),
        queue.w_en.eq(before.valid),
        before.ready.eq(queue.w_rdy),
        after.p.eq(queue.r_data),
        after.valid.eq(queue.r_rdy),
        queue.r_en.eq(after.ready),
    ]


class Buffer(wiring.Component):
    """Two places in a stream: `valid`, `payload` and `ready` all come from registers.

    Rate: one item a cycle. Latency: 1 cycle.

    Members
    -------
    i : ``In(stream.Signature(shape))``
    o : ``Out(stream.Signature(shape))``
    """

    def __init__(self, shape: ShapeLike) -> None:
        self.shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        """Build the block."""
        m = Module()
        spare = Signal(self.shape)
        spared = Signal()  # there is an item in `spare`, behind the one that is offered
        m.d.comb += self.i.ready.eq(~spared)
        with m.If(~spared):
            m.d.sync += spare.eq(self.i.p)
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [self.o.valid.eq(spared | self.i.valid), spared.eq(0)]
            with m.If(spared):
                m.d.sync += self.o.p.eq(spare)
            with m.Else():
                m.d.sync += self.o.p.eq(self.i.p)
        with m.Elif(self.i.valid):
            m.d.sync += spared.eq(1)
        return m
