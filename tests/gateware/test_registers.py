"""The registers against counting in Python."""

import random
from typing import Any

import pytest

from gateware.simulate import run
from polyspike.gateware.engine import Engine
from polyspike.gateware.registers import LIMB_BITS, Registers
from polyspike.spec import LARGE, TINY, Configuration
from polyspike.spec.memory import Space
from polyspike.spec.registers import BY_NAME, COUNTERS, MAGIC, InputLayout

#: Two rounds of 16 registers with four limbs each.
TWO_ROUNDS = 2 * 64


class Host:
    """Reads and writes the registers, one access at a time."""

    def __init__(self, ctx: Any, dut: Any) -> None:
        self.ctx, self.dut = ctx, dut

    async def access(self, name: str, write: int, data: int = 0) -> int:
        ctx, access = self.ctx, self.dut.access
        ctx.set(access.p, {"write": write, "address": BY_NAME[name].address, "data": data})
        ctx.set(access.valid, 1)
        limbs = []
        for _ in range(TWO_ROUNDS + 1):
            _, _, ready, valid, limb = await ctx.tick().sample(access.ready, self.dut.limb_valid, self.dut.limb)
            if valid:
                limbs.append(limb)
            if ready:
                break
        else:
            raise AssertionError(f"{name}: not done after two rounds")
        ctx.set(access.valid, 0)
        assert len(limbs) == (0 if write else 4)
        return sum(limb << LIMB_BITS * index for index, limb in enumerate(limbs))

    async def read(self, name: str) -> int:
        return await self.access(name, 0)

    async def write(self, name: str, data: int) -> None:
        await self.access(name, 1, data)


@pytest.mark.parametrize("configuration", [TINY, LARGE], ids=lambda configuration: configuration.name)
def test_counters(configuration: Configuration) -> None:
    """Every step is counted, at whatever time it comes, and counters carry from limb to limb."""
    dut = Registers(configuration)
    generator = random.Random(1)

    async def host(ctx: Any) -> None:
        registers = Host(ctx, dut)
        expected = [0] * len(COUNTERS)
        for part in range(3):
            # Full speed first, which is what the counters' own bits are just wide enough for.
            for _ in range(250):
                for index in range(len(COUNTERS)):
                    step = configuration.columns if part == 0 else generator.randint(0, configuration.columns)
                    ctx.set(dut.steps[index], step)
                    expected[index] += step
                await ctx.tick()
            for index in range(len(COUNTERS)):
                ctx.set(dut.steps[index], 0)
            for index in generator.sample(range(len(COUNTERS)), len(COUNTERS)):
                assert await registers.read(COUNTERS[index].name) == expected[index], COUNTERS[index]
            if part == 1:
                await registers.write("COUNTERS_CLEAR", 1)
                expected = [0] * len(COUNTERS)
                for register in COUNTERS:
                    assert await registers.read(register.name) == 0

    run(dut, host)


def test_carry() -> None:
    """A counter goes on beyond 16 bits."""
    dut = Registers(LARGE.replace(columns=16))

    async def host(ctx: Any) -> None:
        for index in range(len(COUNTERS)):
            ctx.set(dut.steps[index], 16 - index)
        await ctx.tick().repeat(4200)
        for index in range(len(COUNTERS)):
            ctx.set(dut.steps[index], 0)
        registers = Host(ctx, dut)
        for index, register in enumerate(COUNTERS):
            assert await registers.read(register.name) == 4200 * (16 - index)

    run(dut, host)


def test_identity_and_settings() -> None:
    configuration = TINY.replace(unpacker=1)
    dut = Registers(configuration, clock_hz=0x1_2345_6789)
    layout = InputLayout(nibbles=3, row=777, taps=5, stride=9)

    async def host(ctx: Any) -> None:
        registers = Host(ctx, dut)
        assert ctx.get(dut.divisor) == 0
        for _ in range(2):
            assert await registers.read("MAGIC") == MAGIC
            assert await registers.read("DIGEST") == int(configuration.digest, 16)
            assert await registers.read("CLOCK_HZ") == 0x1_2345_6789
            await registers.write("UART_DIVISOR", 0x8001)
            await registers.write("INPUT_LAYOUT", layout.encode())
            await registers.write("MAGIC", 0)
            assert ctx.get(dut.divisor) == 0x8001
            assert ctx.get(dut.layout.as_value()) == layout.encode()
            assert await registers.read("UART_DIVISOR") == 0x8001
            assert await registers.read("INPUT_LAYOUT") == layout.encode()
            assert await registers.read("COUNTERS_CLEAR") == 0

    run(dut, host)


def test_engine_serves_its_host() -> None:
    """Each request is over before the next one: what was written, unpacked or not, is read."""
    configuration = TINY.replace(unpacker=1)
    dut = Engine(configuration, clock_hz=7)
    layout = InputLayout(nibbles=1, row=16, taps=4, stride=4)

    async def host(ctx: Any) -> None:
        async def request(write: int, space: Space, address: int, **fields: int) -> None:
            ctx.set(dut.request.p, {"write": write, "space": space, "address": address, **fields})
            ctx.set(dut.request.valid, 1)
            await ctx.tick().until(dut.request.ready)
            ctx.set(dut.request.valid, 0)

        async def read(space: Space, address: int) -> int:
            await request(0, space, address)
            ctx.set(dut.response.ready, 1)
            while True:
                _, _, valid, word = await ctx.tick().sample(dut.response.valid, dut.response.p)
                if valid:
                    break
            ctx.set(dut.response.ready, 0)
            return int(word)

        await request(1, Space.REGISTERS, BY_NAME["INPUT_LAYOUT"].address, data=layout.encode())
        for address in range(8):
            await request(1, Space.SPIKES, 10 + address, data=address)
        await request(1, Space.INPUT, 11, first=1, mask=5, data=0x0123_4567_89AB_CDEF)
        assert [await read(Space.SPIKES, 10 + address) for address in range(6)] == [
            0,
            0xCDEF,
            0x89AB,
            0x4567,
            0x0123,
            5,
        ]
        # Other requests may come in between; `address` and `mask` count with the first word alone.
        await request(1, Space.INPUT, 900, mask=100, data=0x0123_4567_89AB_6666)
        await request(1, Space.SPIKES, 12, data=1 << 63)
        got = [await read(Space.SPIKES, 10 + address) for address in range(7)]
        assert got == [0, 0xCDEF, 1 << 63, 0x4567, 0x0123, 0x6666, 6]
        assert await read(Space.REGISTERS, BY_NAME["CLOCK_HZ"].address) == 7
        assert await read(Space.REGISTERS, BY_NAME["MAGIC"].address) == MAGIC
        assert await read(Space.REGISTERS, BY_NAME["INPUT_LAYOUT"].address) == layout.encode()

    run(dut, host)
