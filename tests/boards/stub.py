"""A core that is done quickly: what boards are tested with where it does not matter what is on them."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from polyspike.spec import Configuration


class StubSerialCore(wiring.Component):
    """Inverts what it receives; has the members of `SerialCore`."""

    rx: In(1, init=1)
    tx: Out(1, init=1)
    idle: Out(1)
    running: Out(1)
    error: Out(1)

    def __init__(self, configuration: Configuration, clock_hz: int) -> None:
        super().__init__()

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        count = Signal(8)
        m.d.sync += [count.eq(count + self.rx), self.tx.eq(~self.rx)]
        m.d.comb += [self.idle.eq(~count[-1]), self.running.eq(count[-1]), self.error.eq(count == 0)]
        return m


class StubCore(wiring.Component):
    """Sends back what it receives; has the members of `Core`."""

    def __init__(self, configuration: Configuration, clock_hz: int) -> None:
        members = {"rx": In(stream.Signature(8)), "tx": Out(stream.Signature(8)), "busy": Out(1), "fault": Out(1)}
        super().__init__(members)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.comb += [self.tx.p.eq(self.rx.p), self.tx.valid.eq(self.rx.valid), self.rx.ready.eq(self.tx.ready)]
        return m
