"""The serial device on USB, from the lines D+ and D- to the core's bytes."""

import struct
import types
import warnings
from typing import Any

import pytest
from amaranth.hdl import Module
from amaranth.lib import io
from amaranth.lib.wiring import connect
from amaranth.sim import Simulator

from boards.stub import StubCore
from boards.usb_host import ACK, DATA0, DATA1, NAK, SETUP, Host
from polyspike.cosim.streams import monitor
from polyspike.gateware.boards.usb import USB_HZ, USB_IO_HZ, Crossing, PacketEnds, UsbSerial
from polyspike.spec import TINY

#: The data endpoint of LUNA's serial device.
DATA = 4


@pytest.mark.parametrize("sync_hz", [30e6, 90e6])
@pytest.mark.parametrize("stalled", [False, True])
def test_crossing_keeps_every_byte(sync_hz: float, stalled: bool) -> None:
    """Both ways at once, between clocks of any ratio, with and without a slow receiver."""
    dut = Crossing()
    down, up = bytes(range(250)), bytes(range(255, 5, -1))
    got: dict[str, list[int]] = {"down": [], "up": []}

    def feed(stream: Any, data: bytes, domain: str) -> Any:
        async def testbench(ctx: Any) -> None:
            for byte in data:
                ctx.set(stream.p, byte)
                ctx.set(stream.valid, 1)
                await ctx.tick(domain).until(stream.ready)
            ctx.set(stream.valid, 0)

        return testbench

    def take(stream: Any, count: int, domain: str, into: list[int], byte: Any) -> Any:
        async def testbench(ctx: Any) -> None:
            while len(into) < count:
                if stalled and len(into) % 7 == 3:
                    await ctx.tick(domain).repeat(9)
                ctx.set(stream.ready, 1)
                (value,) = await ctx.tick(domain).sample(byte).until(stream.valid)
                into.append(value)
                ctx.set(stream.ready, 0)

        return testbench

    simulator = Simulator(dut)
    simulator.add_clock(1 / USB_HZ, domain="usb")
    simulator.add_clock(1 / sync_hz, domain="sync")
    simulator.add_testbench(feed(dut.from_host, down, "usb"))
    simulator.add_testbench(feed(dut.tx, up, "sync"))
    simulator.add_testbench(take(dut.rx, len(down), "sync", got["down"], dut.rx.p))
    simulator.add_testbench(take(dut.to_host, len(up), "usb", got["up"], dut.to_host.p.data))
    simulator.run()
    assert bytes(got["down"]) == down
    assert bytes(got["up"]) == up


def test_packets_end_where_the_bytes_do() -> None:
    """Bytes with pauses shorter than the patience are one packet; a longer one ends it, and only that."""
    dut = PacketEnds(patience=8)
    pauses = [0, 0, 5, 0, 30, 0, 3, 40, 60]
    got: list[tuple[int, int]] = []

    async def feed(ctx: Any) -> None:
        for index, pause in enumerate(pauses):
            ctx.set(dut.i.p, index)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)
            await ctx.tick().repeat(max(1, pause))

    async def take(ctx: Any) -> None:
        ctx.set(dut.o.ready, 1)
        while len(got) < len(pauses):
            data, last = await ctx.tick().sample(dut.o.p.data, dut.o.p.last).until(dut.o.valid)
            got.append((data, last))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_process(monitor(dut.o, "o"))
    simulator.add_testbench(feed)
    simulator.add_testbench(take)
    simulator.run()
    assert got == [(index, int(pause > 8)) for index, pause in enumerate(pauses)]


class _Board:
    """A serial device whose core sends back what it gets, and the lines to speak to it through."""

    def __init__(self) -> None:
        ports = {name: io.SimulationPort("io", 1) for name in ("d_p", "d_n", "pullup")}
        self.m = m = Module()
        buffers = {name: io.Buffer("o" if name == "pullup" else "io", port) for name, port in ports.items()}
        m.submodules += buffers.values()
        self.d_p, self.d_n, self.pullup = ports["d_p"], ports["d_n"], ports["pullup"]
        m.submodules.usb = usb = UsbSerial(
            types.SimpleNamespace(**buffers),
            idVendor=0x1209,
            idProduct=0x0001,
            product_string="polyspike tiny",
        )
        m.submodules.core = core = StubCore(TINY, 0)
        connect(m, usb.rx, core.rx)
        connect(m, core.tx, usb.tx)

    def run(self, testbench: Any) -> None:
        async def bench(ctx: Any) -> None:
            host = Host(ctx, self.d_p, self.d_n)
            await host.idle(40)
            assert ctx.get(self.pullup.o), "the device is attached"
            await host.reset()
            await testbench(host)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            simulator = Simulator(self.m)
        simulator.add_clock(1 / USB_IO_HZ, domain="usb_io")
        simulator.add_clock(1 / USB_HZ, domain="usb")
        simulator.add_clock(1 / 50e6, domain="sync")
        simulator.add_testbench(bench)
        simulator.run()


@pytest.fixture
def board() -> _Board:
    with warnings.catch_warnings():
        # LUNA 0.2 uses parts of Amaranth that 0.6 will remove.
        warnings.simplefilter("ignore", DeprecationWarning)
        return _Board()


def test_bytes_go_through_and_come_back(board: _Board) -> None:
    """Two packets of a host reach the core, and its answers the host, without waiting for a full packet."""

    async def dialogue(host: Host) -> None:
        for kind, data in ((DATA0, b"polyspike"), (DATA1, bytes(range(240, 256)))):
            assert await host.out(DATA, kind, data) == ACK
            got = b""
            for _ in range(20):
                answer, part = await host.take(DATA)
                got += part
                if answer == NAK:
                    await host.idle(30)
                if len(got) >= len(data):
                    break
            assert got == data

    board.run(dialogue)


def test_descriptor_names_a_serial_device(board: _Board) -> None:
    async def enumerate_device(host: Host) -> None:
        request = struct.pack("<BBHHH", 0x80, 6, 0x0100, 0, 18)
        assert await host.out(0, DATA0, request, start=SETUP) == ACK
        for _ in range(20):
            answer, descriptor = await host.take(0)
            if answer == DATA1:
                break
        length, kind, usb, _, _, _, packet_size, vendor, product = struct.unpack_from("<BBHBBBBHH", descriptor)
        assert (length, kind, usb, packet_size) == (18, 1, 0x0200, 64)
        assert (vendor, product) == (0x1209, 0x0001)

    board.run(enumerate_device)
