"""A component that breaks the rules of streams, each in its own way, for the tests of what watches them."""

from amaranth import Module, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

#: A structure of signed, nested and repeated fields.
ITEM = data.StructLayout(
    {
        "first": 5,
        "second": data.ArrayLayout(data.StructLayout({"low": 3, "high": 2}), 2),
        "third": data.ArrayLayout(signed(9), 2),
    }
)


class Unruly(wiring.Component):
    """`echo` repeats `i` and is right; the other outputs are not.

    `falls` stops offering by itself, `changes` counts while it offers, `waits` offers only what would be taken, and
    `repeats` offers each item twice.
    """

    i: In(stream.Signature(ITEM))
    echo: Out(stream.Signature(ITEM))
    falls: Out(stream.Signature(8))
    changes: Out(stream.Signature(8))
    waits: Out(stream.Signature(8))
    repeats: Out(stream.Signature(8))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += [
            self.echo.payload.eq(self.i.payload),
            self.echo.valid.eq(self.i.valid),
            self.i.ready.eq(self.echo.ready),
        ]
        time = Signal(8)
        m.d.sync += time.eq(time + 1)
        m.d.comb += [
            self.falls.valid.eq(time[2]),
            self.changes.payload.eq(time),
            self.changes.valid.eq(1),
            self.waits.valid.eq(self.waits.ready),
            self.repeats.valid.eq(1),
        ]
        second = Signal()
        with m.If(self.repeats.ready):
            m.d.sync += [second.eq(~second), self.repeats.payload.eq(self.repeats.payload + second)]
        return m
