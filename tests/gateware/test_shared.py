"""The arbiter and the spike memory that columns share."""

import random
from typing import Any

import pytest

from gateware.simulate import run
from polyspike.cosim.streams import STALLS, get, put, wait
from polyspike.gateware.arbiter import RoundRobin
from polyspike.gateware.spike_memory import READ_LATENCY, SpikeMemory
from polyspike.spec import Configuration


@pytest.mark.parametrize("inputs", [2, 3, 9])
@pytest.mark.parametrize("stall", STALLS)
def test_arbiter_passes_everything_on_in_order(inputs: int, stall: str) -> None:
    unit = RoundRobin(16, inputs)
    sent = [[source << 8 | index for index in range(20)] for source in range(inputs)]
    got: list[tuple[int, int]] = []

    def feed(source: int) -> Any:
        async def testbench(ctx: Any) -> None:
            stalls = STALLS[stall](source)
            for item in sent[source]:
                await put(ctx, getattr(unit, f"i{source}"), item, next(stalls))

        return testbench

    async def collect(ctx: Any) -> None:
        stalls = STALLS[stall](99)
        for _ in range(20 * inputs):
            served = await get(ctx, unit.o, next(stalls))
            got.append((served.source, served.item))

    run(unit, collect, *(feed(source) for source in range(inputs)))
    for source in range(inputs):
        assert [item for origin, item in got if origin == source] == sent[source]


def test_arbiter_is_fair_and_serves_one_a_cycle() -> None:
    unit = RoundRobin(8, 3)
    order: list[int] = []

    async def watch(ctx: Any) -> None:
        for source in range(3):
            ctx.set(getattr(unit, f"i{source}").valid, 1)
        ctx.set(unit.o.ready, 1)
        for _ in range(9):
            _, _, valid, served = await ctx.tick().sample(unit.o.valid, unit.o.payload)
            assert valid
            order.append(served.source)

    run(unit, watch)
    assert order == [0, 1, 2] * 3


def test_arbiter_decides_a_cycle_ahead() -> None:
    """`ready` follows from the turn alone: a newcomer waits for a cycle, the one served last does not."""
    unit = RoundRobin(8, 3)

    async def watch(ctx: Any) -> None:
        ctx.set(unit.o.ready, 1)

        async def served(*valid: int) -> tuple[int, int]:
            for source in range(3):
                ctx.set(getattr(unit, f"i{source}").valid, source in valid)
            _, _, *ready = await ctx.tick().sample(unit.i0.ready, unit.i1.ready, unit.i2.ready)
            return ready.index(1), sum(ready)

        assert [await served(*valid) for valid in ((), (2,), (2,), (), (2,), (1,), (1,))] == [
            (turn, 1) for turn in (0, 0, 2, 2, 2, 2, 1)
        ]

    run(unit, watch)


@pytest.mark.parametrize("columns,ports", [(1, 1), (4, 2), (8, 2)])
def test_memory_serves_all_columns_and_the_host(columns: int, ports: int) -> None:
    configuration = Configuration(
        name="test",
        columns=columns,
        lanes=8,
        weight_depth=64,
        spike_depth=64,
        param_depth=64,
        program_depth=64,
        read_ports=ports,
    )
    unit = SpikeMemory(configuration)
    generator = random.Random(columns)
    content = [0] * 64
    span = 64 // (columns + 1)

    def writer(name: str, base: int) -> Any:
        async def testbench(ctx: Any) -> None:
            for _ in range(20):
                address, data, mask = (
                    base + generator.randrange(span),
                    generator.getrandbits(64),
                    generator.randint(1, 3),
                )
                keep = (0 if mask & 1 else 0xFFFFFFFF) | (0 if mask & 2 else 0xFFFFFFFF << 32)
                content[address] = content[address] & keep | data & ~keep
                await put(ctx, getattr(unit, name), {"address": address, "data": data, "mask": mask})

        return testbench

    checked = []

    def reader(name: str, word: Any) -> Any:
        async def testbench(ctx: Any) -> None:
            await wait(ctx, 20 * (columns + 1) + 5)
            for address in range(64):
                await put(ctx, getattr(unit, name), address)
                await wait(ctx, READ_LATENCY - 1)
                checked.append(ctx.get(word) == content[address])

        return testbench

    names = [f"write{column}" for column in range(columns)]
    writers = [writer(name, index * span) for index, name in enumerate([*names, "host_write"])]
    readers = [reader(f"read{column}", getattr(unit, f"word{column}")) for column in range(columns)]
    run(unit, *writers, *readers, reader("host_read", unit.host_word))
    assert checked == [True] * (64 * (columns + 1))


@pytest.mark.parametrize("same,cycles", [(True, 16), (False, 31)])
def test_memory_serves_equal_addresses_at_once(same: bool, cycles: int) -> None:
    """Columns 0 and 2 share a port: 16 addresses each take 16 cycles if they are the same ones, else twice that."""
    configuration = Configuration(
        name="test", columns=4, lanes=8, weight_depth=64, spike_depth=64, param_depth=64, program_depth=64, read_ports=2
    )
    unit = SpikeMemory(configuration)
    finished = []

    def reader(column: int, first: int) -> Any:
        async def testbench(ctx: Any) -> None:
            taken = 0
            stream = getattr(unit, f"read{column}")
            ctx.set(stream.valid, 1)
            elapsed = 0
            while taken < 16:
                ctx.set(stream.payload, first + taken)
                _, _, ready = await ctx.tick().sample(stream.ready)
                elapsed += 1
                taken += ready
            ctx.set(stream.valid, 0)
            finished.append(elapsed)

        return testbench

    run(unit, reader(0, 0), reader(2, 0 if same else 32))
    assert min(finished) == cycles
    assert max(finished) <= cycles + 1


def test_memory_reads_on_all_ports_every_cycle() -> None:
    configuration = Configuration(
        name="test", columns=2, lanes=8, weight_depth=64, spike_depth=64, param_depth=64, program_depth=64, read_ports=2
    )
    unit = SpikeMemory(configuration)

    async def watch(ctx: Any) -> None:
        for column in range(2):
            ctx.set(getattr(unit, f"read{column}").valid, 1)
        for _ in range(10):
            _, _, first, second = await ctx.tick().sample(unit.read0.ready, unit.read1.ready)
            assert first and second

    run(unit, watch)
