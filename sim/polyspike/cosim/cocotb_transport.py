"""A transport that lets the ordinary driver talk over the byte streams of a link in a cocotb bench."""

from typing import Any

import cocotb
from cocotb.task import resume
from cocotb.triggers import Event, FallingEdge, RisingEdge, SimTimeoutError, with_timeout
from cocotb.utils import get_sim_time

from .cocotb_streams import PERIOD_NS, StreamDriver, start


class ByteStreamSink:
    """Takes bytes from a stream of the design as they come, and hands them over by the heap: what a host reads."""

    def __init__(self, dut: Any, name: str) -> None:
        self._settled = FallingEdge(dut.clk)
        self._payload = getattr(dut, f"{name}__payload")
        self._valid = getattr(dut, f"{name}__valid")
        getattr(dut, f"{name}__ready").value = 1
        self._received = bytearray()
        self._paused = Event()
        cocotb.start_soon(self._take())

    async def _take(self) -> None:
        offered = RisingEdge(self._valid)
        while True:
            # Sleeping until something is offered spares the simulator a call each cycle.
            await offered
            await self._settled
            while self._valid.value:
                self._received.append(int(self._payload.value))
                await self._settled
            self._paused.set()

    async def receive(self, most: int, cycles: int) -> bytes:
        """Return at most `most` bytes as soon as the design pauses, or none after `cycles` in which none came."""
        if not self._received:
            self._paused.clear()
            try:
                await with_timeout(self._paused.wait(), cycles * PERIOD_NS, "ns")
            except SimTimeoutError:
                return b""
        data = bytes(self._received[:most])
        del self._received[:most]
        return data


class CocotbTransport:
    """The driver's view of a simulated link (`polyspike.driver.ports.Transport`).

    The driver is ordinary blocking code: call it in a function that runs under `cocotb.task.bridge`. A second is
    `cycles_per_second` clock cycles here.
    """

    def __init__(self, source: StreamDriver, sink: ByteStreamSink, cycles_per_second: int = 20_000) -> None:
        self._send = resume(source.send)
        self._receive = resume(sink.receive)
        self._cycles_per_second = cycles_per_second

    @property
    def bytes_per_second(self) -> None:
        """Mean nothing: a byte takes a cycle."""
        return None

    def now(self) -> float:
        """Return the seconds since the simulation began."""
        return get_sim_time("ns") / PERIOD_NS / self._cycles_per_second

    def fall_back(self) -> None:
        """Do nothing: there is but one rate."""

    def write(self, data: bytes) -> None:
        """Send bytes; return when the design has taken them."""
        self._send(data)

    def read(self, most: int, timeout: float) -> bytes:
        """Return what has come, or nothing after `timeout` seconds of silence."""
        return self._receive(most, round(timeout * self._cycles_per_second))

    def close(self) -> None:
        """Let go of the stream: nothing to do."""


async def start_link(dut: Any) -> CocotbTransport:
    """Start the clock, reset the design, and return a transport over its ports `rx` and `tx`."""
    source, sink = StreamDriver(dut, "rx", 8), ByteStreamSink(dut, "tx")
    await start(dut)
    return CocotbTransport(source, sink)
