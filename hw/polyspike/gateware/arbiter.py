"""Sharing one stream between several."""

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2


class RoundRobin(wiring.Component):
    """Pass on one of several streams at a time; the one served last comes last.

    Whose turn it is was decided in the cycle before, so `ready` depends on no `valid`.

    Rate: one item a cycle while streams have items; one that begins to offer waits for a cycle, if it was not the last
    one. Latency: none, the path is combinational.

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
        choice = Signal(range(max(2, self.inputs)))
        with m.Switch(choice):
            for index, each in enumerate(streams):
                with m.Case(index):
                    m.d.comb += [
                        self.o.valid.eq(each.valid),
                        self.o.p.item.eq(each.payload),
                        self.o.p.source.eq(index),
                        each.ready.eq(self.o.ready),
                    ]
                    with m.If(self.o.ready | ~each.valid):
                        for distance in reversed(range(1, self.inputs)):
                            candidate = (index + distance) % self.inputs
                            with m.If(streams[candidate].valid):
                                m.d.sync += choice.eq(candidate)
        return m
