"""Sharing one stream between several."""

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2


class RoundRobin(wiring.Component):
    """Pass on one of several streams at a time; the one served last comes last.

    The choice is made anew in each cycle unless an item is waiting, so the output keeps the stream rules.

    Rate: one item a cycle. Latency: none, the path is combinational.

    Members
    -------
    i0, i1, ... : ``In(stream.Signature(shape))``
    o : ``Out(stream.Signature(StructLayout({"item": shape, "source": ...})))``, items with the number of their stream
    """

    def __init__(self, shape: ShapeLike, inputs: int) -> None:
        self.inputs = inputs
        layout = data.StructLayout({"item": shape, "source": max(1, ceil_log2(inputs))})
        super().__init__(
            {f"i{index}": In(stream.Signature(shape)) for index in range(inputs)} | {"o": Out(stream.Signature(layout))}
        )

    def elaborate(self, platform: object) -> Module:
        """Build the block."""
        m = Module()
        streams = [getattr(self, f"i{index}") for index in range(self.inputs)]
        last = Signal(range(max(2, self.inputs)))
        choice = Signal.like(last)
        held = Signal()  # an item is offered and was not taken: the choice must not change
        previous = Signal.like(last)
        with m.If(held):
            m.d.comb += choice.eq(previous)
        with m.Else(), m.Switch(last):
            for served in range(self.inputs):
                with m.Case(served):
                    m.d.comb += choice.eq(served)
                    for distance in reversed(range(1, self.inputs)):
                        candidate = (served + distance) % self.inputs
                        with m.If(streams[candidate].valid):
                            m.d.comb += choice.eq(candidate)
        with m.Switch(choice):
            for index, each in enumerate(streams):
                with m.Case(index):
                    m.d.comb += [
                        self.o.valid.eq(each.valid),
                        self.o.p.item.eq(each.payload),
                        self.o.p.source.eq(index),
                        each.ready.eq(self.o.ready),
                    ]
        m.d.sync += [held.eq(self.o.valid & ~self.o.ready), previous.eq(choice)]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += last.eq(choice)
        return m
