"""The buses of an accelerator behind AXI in a cocotb bench, and a memory port that lets the ordinary driver use them.

Needs cocotbext-axi, which models the other end of each bus.
"""

from collections.abc import Callable
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.task import resume
from cocotb.triggers import ClockCycles, RisingEdge, Timer
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiResp,
    AxiStreamBus,
    AxiStreamFrame,
    AxiStreamSink,
    AxiStreamSource,
)
from numpy.typing import NDArray

from polyspike.driver.ports import Traffic, Words
from polyspike.spec import DeviceError, axi
from polyspike.spec.memory import Space
from polyspike.spec.registers import BY_NAME as ENGINE_REGISTERS
from polyspike.spec.registers import COUNTERS, REGISTERS

from .cocotb_streams import PERIOD_NS

IN, RUN, OUT, CLEAR = (axi.field("COMMAND", name).mask for name in ("in", "run", "out", "clear"))
DONE_IN, DONE_RUN, DONE_OUT = (axi.field("IRQ_STATUS", name).mask for name in ("in", "run", "out"))


class AxiHost:
    """A processor and a DMA engine: the other ends of AXI4-Lite and of both streams of an `AxiEngine`."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        reset = {"reset": dut.aresetn, "reset_active_level": False}
        self.lite = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.aclk, **reset)
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), dut.aclk, byte_lanes=8, **reset)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.aclk, byte_lanes=8, **reset)
        for log in (self.lite.write_if.log, self.lite.read_if.log, self.source.log, self.sink.log):
            log.setLevel("WARNING")

    async def start(self) -> None:
        """Start the clock, and let go of the reset, which must have been set."""
        Clock(self.dut.aclk, PERIOD_NS, "ns", impl="gpi").start()
        await ClockCycles(self.dut.aclk, 3)
        self.dut.aresetn.value = 1
        await RisingEdge(self.dut.aclk)

    async def access(self, name: str, value: int, response: AxiResp = AxiResp.OKAY) -> None:
        """Write a register by name; its answer must be `response`."""
        answer = await self.lite.write(axi.BY_NAME[name].offset, value.to_bytes(4, "little"))
        assert answer.resp == response, f"{name} = {value:#x}: {answer.resp!r}"

    async def read(self, name: str) -> int:
        """Read a register by name."""
        answer = await self.lite.read(axi.BY_NAME[name].offset, 4)
        assert answer.resp == AxiResp.OKAY, name
        return int.from_bytes(answer.data, "little")

    async def command(self, value: int, response: AxiResp = AxiResp.OKAY, **settings: int) -> None:
        """Write settings and command, one after the other without a pause."""
        writes = [cocotb.start_soon(self.access(name.upper(), setting)) for name, setting in settings.items()]
        writes.append(cocotb.start_soon(self.access("COMMAND", value, response)))
        for write in writes:
            await write

    async def send(self, words: NDArray[np.uint64]) -> None:
        """Offer a packet of words on the input stream."""
        await self.source.send(AxiStreamFrame(words.astype("<u8").tobytes()))

    async def receive(self) -> NDArray[np.uint64]:
        """Return the next packet of the output stream."""
        frame = await self.sink.recv()
        return np.frombuffer(bytes(frame.tdata), "<u8").astype(np.uint64)

    async def interrupt(self, bits: int) -> None:
        """Wait for the interrupt, which must have one of the bits for its reason, and clear them."""
        if not self.dut.irq.value:
            await RisingEdge(self.dut.irq)
        status = await self.read("IRQ_STATUS")
        assert status & bits == bits, f"the interrupt is for {status:#x}, not for {bits:#x}"
        await self.access("IRQ_STATUS", bits)


class AxiPort:
    """An accelerator behind AXI as the driver sees it (`polyspike.driver.ports.MemoryPort`).

    Every call waits until it is done, so there is nothing to write ahead of. The driver is ordinary blocking code: call
    it in a function that runs under `cocotb.task.bridge`.
    """

    def __init__(self, host: AxiHost) -> None:
        self._host = host
        self._layout = 0
        self._write = resume(self._write_words)
        self._read = resume(self._read_words)
        self._run = resume(self._run_instructions)

    def write(self, space: Space, mask: int, address: int, words: Words, ahead: bool = False) -> None:
        """Write words. DeviceError: to a register that is not there behind AXI."""
        self._write(space, mask, address, words)

    def read(self, space: Space, address: int, count: int) -> Words:
        """Read words. DeviceError: of a register that is not there behind AXI."""
        words: Words = self._read(space, address, count)
        return words

    def read_later(self, space: Space, address: int, count: int) -> Callable[[], Words]:
        """Read words now, and return a function that returns them."""
        words = self.read(space, address, count)
        return lambda: words

    def run(self, first: int, count: int) -> None:
        """Execute instructions."""
        self._run(first, count)

    def finish(self) -> None:
        """Do nothing: everything is done."""

    def traffic(self) -> Traffic | None:
        """Return None: there is no link."""

    async def _write_words(self, space: Space, mask: int, address: int, words: Words) -> None:
        if space is not Space.REGISTERS:
            await self._host.access("IRQ_ENABLE", DONE_IN)
            await self._host.send(words)
            await self._host.command(
                IN,
                in_target=space << axi.field("IN_TARGET", "space").low | mask << axi.field("IN_TARGET", "mask").low,
                in_address=address,
                in_count=len(words),
                in_layout=self._layout,
            )
            await self._host.interrupt(DONE_IN)
        elif address == ENGINE_REGISTERS["COUNTERS_CLEAR"].address:
            await self._host.command(CLEAR)
        elif address == ENGINE_REGISTERS["INPUT_LAYOUT"].address:
            self._layout = int(words[0])
        else:
            raise DeviceError(f"register {REGISTERS[address].name} cannot be written behind AXI")

    async def _read_words(self, space: Space, address: int, count: int) -> Words:
        if space is Space.REGISTERS:
            return np.array([await self._register(each) for each in range(address, address + count)], np.uint64)
        await self._host.access("IRQ_ENABLE", DONE_OUT)
        await self._host.command(OUT, out_address=address, out_count=count)
        words = await self._host.receive()
        await self._host.interrupt(DONE_OUT)
        return words

    async def _register(self, address: int) -> int:
        register = REGISTERS[address]
        if register in COUNTERS:
            low = await self._host.read(f"{register.name}_LO")
            return low | await self._host.read(f"{register.name}_HI") << 32
        if register.name == "CLOCK_HZ":
            return await self._host.read("CLOCK_HZ")
        raise DeviceError(f"register {register.name} cannot be read behind AXI")

    async def _run_instructions(self, first: int, count: int) -> None:
        await self._host.access("IRQ_ENABLE", DONE_RUN)
        await self._host.command(RUN, run_first=first, run_count=count)
        await self._host.interrupt(DONE_RUN)


async def start_axi(dut: Any) -> AxiPort:
    """Start the clock, reset the design, and return a memory port over its buses."""
    dut.aresetn.value = 0
    host = AxiHost(dut)
    await Timer(1, "ns")  # the inputs have their values before the first clock edge
    await host.start()
    return AxiPort(host)
