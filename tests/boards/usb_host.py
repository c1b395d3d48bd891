"""A USB host of full speed, from packets down to the two lines: NRZI, bit stuffing, tokens, CRCs and handshakes."""

import itertools
from typing import Any

#: Packet identifiers, with their complement in the upper nibble.
OUT, IN, SETUP, DATA0, DATA1, ACK, NAK, STALL = 0xE1, 0x69, 0x2D, 0xC3, 0x4B, 0xD2, 0x5A, 0x1E

#: Cycles of 48 MHz that a bit lasts.
OVERSAMPLING = 4


def crc(bits: list[int], width: int, polynomial: int) -> list[int]:
    """Return the CRC of USB 2.0, section 8.3.5, in the order of transmission."""
    register = (1 << width) - 1
    for bit in bits:
        top = register >> (width - 1)
        register = register << 1 & ((1 << width) - 1)
        if top != bit:
            register ^= polynomial
    return [1 - (register >> index & 1) for index in reversed(range(width))]


def to_bits(data: bytes) -> list[int]:
    return [byte >> index & 1 for byte in data for index in range(8)]


def to_bytes(bits: list[int]) -> bytes:
    assert len(bits) % 8 == 0, "a packet is whole bytes"
    return bytes(sum(bit << index for index, bit in enumerate(bits[at : at + 8])) for at in range(0, len(bits), 8))


def token(kind: int, address: int, endpoint: int) -> list[int]:
    fields = [address >> index & 1 for index in range(7)] + [endpoint >> index & 1 for index in range(4)]
    return to_bits(bytes([kind])) + fields + crc(fields, 5, 0x05)


def packet(kind: int, data: bytes) -> list[int]:
    return to_bits(bytes([kind])) + to_bits(data) + crc(to_bits(data), 16, 0x8005)


class Host:
    """Speaks to a device through the buffers of D+ and D-. To be used in one testbench."""

    def __init__(self, ctx: Any, d_p: Any, d_n: Any) -> None:
        self.ctx, self.d_p, self.d_n = ctx, d_p, d_n

    def lines(self, d_p: int, d_n: int) -> None:
        self.ctx.set(self.d_p.i, d_p)
        self.ctx.set(self.d_n.i, d_n)

    async def tick(self, bits: int = 1) -> None:
        for _ in range(bits * OVERSAMPLING):
            await self.ctx.tick("usb_io")

    async def idle(self, bits: int) -> None:
        self.lines(1, 0)
        await self.tick(bits)

    async def reset(self) -> None:
        """Pull both lines low for 10 microseconds, as a hub does for longer."""
        self.lines(0, 0)
        await self.tick(120)
        await self.idle(20)

    async def send(self, bits: list[int]) -> None:
        level, ones = 1, 0
        for bit in [0, 0, 0, 0, 0, 0, 0, 1, *bits]:
            for each in [bit, 0] if bit and ones == 5 else [bit]:
                ones = ones + 1 if each else 0
                level = level if each else 1 - level
                self.lines(level, 1 - level)
                await self.tick()
        self.lines(0, 0)
        await self.tick(2)
        await self.idle(1)

    async def receive(self) -> bytes:
        """Return what the device sends next, from its packet identifier on."""
        for _ in range(20 * OVERSAMPLING):
            if self.ctx.get(self.d_p.oe):
                break
            await self.ctx.tick("usb_io")
        else:
            raise TimeoutError("the device does not answer")
        samples = []
        while self.ctx.get(self.d_p.oe):
            samples.append((self.ctx.get(self.d_p.o), self.ctx.get(self.d_n.o)))
            await self.ctx.tick("usb_io")
        states = samples[OVERSAMPLING // 2 :: OVERSAMPLING]
        while states[0] == (1, 0):
            states = states[1:]
        end = states.index((0, 0))
        assert states[end : end + 2] == [(0, 0), (0, 0)], "a packet ends with two bits of both lines low"
        levels = [1] + [d_p for d_p, d_n in states[:end] if d_p != d_n]
        assert len(levels) == end + 1, "lines are complementary within a packet"
        bits, ones = [], 0
        for before, after in itertools.pairwise(levels):
            bit = int(before == after)
            if ones < 6:
                bits.append(bit)
            else:
                assert bit == 0, "six ones are followed by a stuffed zero"
            ones = ones + 1 if bit else 0
        assert bits[:8] == [0, 0, 0, 0, 0, 0, 0, 1], "a packet starts with the sync pattern"
        await self.idle(4)
        return to_bytes(bits[8:])

    async def out(self, endpoint: int, kind: int, data: bytes, start: int = OUT) -> int:
        """Send data and return the device's handshake."""
        await self.send(token(start, 0, endpoint))
        await self.idle(4)
        await self.send(packet(kind, data))
        return (await self.receive())[0]

    async def take(self, endpoint: int) -> tuple[int, bytes]:
        """Ask for data; return the packet's identifier and what it carries, acknowledged."""
        await self.send(token(IN, 0, endpoint))
        answer = await self.receive()
        if answer[0] not in (DATA0, DATA1):
            return answer[0], b""
        data, check = answer[1:-2], answer[-2:]
        assert to_bits(check) == crc(to_bits(data), 16, 0x8005)
        await self.send(to_bits(bytes([ACK])))
        await self.idle(4)
        return answer[0], data
