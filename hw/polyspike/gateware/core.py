"""The whole accelerator, from link bytes to link bytes."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from polyspike.spec import Configuration

from .buffer import Buffer
from .engine import Engine
from .link import Link


class Core(wiring.Component):
    """Engine and link of one configuration.

    Rate and latency are those of the blocks; a byte a cycle on the link at most.

    Members
    -------
    rx : ``In(stream.Signature(8))``, bytes from the host
    tx : ``Out(stream.Signature(8))``, bytes to the host
    busy : ``Out(1)``, high while a program is being executed
    fault : ``Out(1)``, high for a cycle when a damaged or refused frame was seen
    divisor : ``Out(16)``, register UART_DIVISOR: clock cycles a bit, 0 for the board's own choice

    Parameters
    ----------
    clock_hz
        The frequency of domain `sync`, which the host can read from register CLOCK_HZ; 0 if unknown.
    """

    def __init__(self, configuration: Configuration, clock_hz: int = 0) -> None:
        self.configuration, self.clock_hz = configuration, clock_hz
        super().__init__(
            {
                "rx": In(stream.Signature(8)),
                "tx": Out(stream.Signature(8)),
                "busy": Out(1),
                "fault": Out(1),
                "divisor": Out(16),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the core."""
        m = Module()
        m.submodules.link = link = Link(self.configuration)
        m.submodules.engine = engine = Engine(self.configuration, self.clock_hz)
        connect(m, flipped(self.rx), link.rx)
        connect(m, link.tx, flipped(self.tx))
        if self.configuration.compact:
            connect(m, link.request, engine.request)
        else:
            m.submodules.requests = requests = Buffer(engine.request.payload.shape())
            connect(m, link.request, requests.i)
            connect(m, requests.o, engine.request)
        connect(m, engine.response, link.response)
        connect(m, link.run, engine.run)
        m.d.comb += [
            link.busy.eq(engine.busy),
            self.busy.eq(engine.busy),
            self.fault.eq(link.fault),
            self.divisor.eq(engine.divisor),
        ]
        return m
