"""Frames made by hand against the gateware's link, with a memory behind it (LinkMemory of `tiny`)."""

import struct
from typing import Any

import cocotb
from cocotb.task import bridge

from polyspike.cosim.cocotb_streams import PERIOD_NS
from polyspike.cosim.cocotb_transport import CocotbTransport, start_link
from polyspike.spec import link as frames
from polyspike.spec.link import Command, Status
from polyspike.spec.memory import Space
from polyspike.spec.registers import BY_NAME

BOUND_NS = 50_000 * PERIOD_NS
SESSION = 0x1234


@cocotb.test(timeout_time=BOUND_NS, timeout_unit="ns")
async def dialogue(dut: Any) -> None:
    """Everything is sent at once, with a damaged frame in between, and comes back in order."""
    words = [0x0123456789ABCDEF, 0xFEDCBA9876543210, 1, 2]
    payload = struct.pack("<4Q", *words)
    later = struct.pack("<2Q", 7, 8)
    runs, cycles = BY_NAME["EVENTS"].address, BY_NAME["CYCLES"].address
    requests = [
        frames.request(SESSION, 3, Command.READ, count=1),
        frames.request(SESSION, 9, Command.OPEN),
        frames.request(SESSION, 10, Command.WRITE, Space.SPIKES, 0, 5, 4, payload),
        frames.request(SESSION, 11, Command.RUN, address=0, count=200),
        frames.request(SESSION, 12, Command.WRITE_AHEAD, Space.SPIKES, 0, 7, 2, later),
        frames.request(SESSION, 11, Command.RUN, address=0, count=200),
        frames.request(SESSION, 13, Command.READ, Space.SPIKES, address=5, count=4),
        frames.request(SESSION, 14, Command.WRITE, Space.WEIGHTS, 1, 1 << 20, 2, later),
        frames.request(SESSION, 15, Command.READ, Space.REGISTERS, address=runs, count=1),
        frames.request(SESSION, 16, Command.READ, Space.REGISTERS, address=cycles, count=1),
    ]
    damaged = bytearray(requests[2])
    damaged[20] ^= 1
    requests.insert(2, bytes(damaged))
    expected = b"".join(
        [
            frames.response(3, Status.CLOSED),
            frames.response(9, Status.OK, struct.pack("<Q", SESSION)),
            frames.response(10, Status.OK),
            frames.response(11, Status.OK),
            frames.response(12, Status.OK),
            frames.response(11, Status.OK),
            frames.response(13, Status.OK, struct.pack("<4Q", *words[:2], 7, 8)),
            frames.response(14, Status.REFUSED),
            frames.response(15, Status.OK, struct.pack("<Q", 1)),
            frames.response(16, Status.OK, struct.pack("<Q", 201)),
        ]
    )

    def host(transport: CocotbTransport) -> None:
        transport.write(b"".join(requests))
        received = b""
        while data := transport.read(1 << 12, 0.1):
            received += data
        assert received == expected

    await bridge(host)(await start_link(dut))
