"""Gather and lanes of a compact column against plain loops."""

import random
from typing import Any

import pytest

from gateware.adding import bank_words, random_bank
from gateware.compacting import (
    CONFIGURATION,
    DEPTH,
    LANES,
    MODES,
    dropped,
    events_of,
    random_memory,
    random_passes,
    random_step,
    random_sum,
    signed,
    total_of,
)
from gateware.simulate import describe, plain, run
from polyspike.cosim.streams import STALLS, get, put, send
from polyspike.gateware.compact_gather import CompactGather
from polyspike.gateware.compact_lanes import CompactLanes
from polyspike.gateware.compact_memory import CompactMemory
from polyspike.spec.instructions import PassMode


@pytest.mark.parametrize("stall", STALLS)
def test_gather(stall: str) -> None:
    generator = random.Random(stall)
    unit = CompactGather(CONFIGURATION)
    memory = random_memory(generator)
    steps = [random_step(generator) for _ in range(120)]
    steps[-1]["last"] = 1
    expected = [event for step in steps for event in events_of(step, memory[step["address"]])]
    got, zero_words = [], []

    async def feed(ctx: Any) -> None:
        await send(ctx, unit.step, steps, STALLS[stall](3))

    async def serve(ctx: Any) -> None:
        """Be the spike memory: grant requests now and then, and spoil the word whenever it is not held."""
        stalls = STALLS[stall](5)
        pause = next(stalls)
        while True:
            ctx.set(unit.request.ready, pause == 0)
            _, _, valid, address, hold, zero = await ctx.tick().sample(
                unit.request.valid, unit.request.payload, unit.hold, unit.zero_word
            )
            zero_words.append(zero)
            assert not (valid and hold)
            if valid and pause == 0:
                ctx.set(unit.word, memory[address])
            elif not hold:
                ctx.set(unit.word, generator.getrandbits(64))
            pause = pause - 1 if pause else (next(stalls) if valid else 0)

    async def collect(ctx: Any) -> None:
        stalls = STALLS[stall](4)
        for event in expected:
            full = plain(await get(ctx, unit.event, next(stalls)))
            full["raw"] = signed(full["raw"] & 0xFFFFFF, 24)
            got.append({name: full[name] for name in event})
        await ctx.tick().repeat(5)

    run(unit, feed, collect, background=(serve,))
    assert got == expected
    assert sum(zero_words) == sum(dropped(step, memory[step["address"]]) for step in steps)


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("modes", MODES)
def test_lanes(modes: tuple[PassMode, PassMode], stall: str) -> None:
    generator = random.Random(f"{modes} {stall}")
    unit = CompactLanes(CONFIGURATION)
    passes = random_passes(generator)
    bank = random_bank(generator, LANES)
    sums = [random_sum(generator, modes, passes, bank) for _ in range(10)]
    expected = [total for events in sums for total in total_of(events, passes, bank)]
    got: list[int] = []

    async def feed(ctx: Any) -> None:
        describe(ctx, unit, weights=passes)
        ctx.set(unit.write_enable, 1)
        for address, word in bank_words(bank):
            ctx.set(unit.write, {"address": address, "data": word})
            await ctx.tick()
        ctx.set(unit.write_enable, 0)
        await send(ctx, unit.event, [event for events in sums for event in events], STALLS[stall](5))

    async def collect(ctx: Any) -> None:
        stalls = STALLS[stall](6)
        for _ in expected:
            got.append(await get(ctx, unit.sums, next(stalls)))

    run(unit, feed, collect)
    assert got == expected


@pytest.mark.parametrize("stall", STALLS)
def test_memory(stall: str) -> None:
    """Column and host read and write, each what nobody else writes; the column holds its words for a while."""
    generator = random.Random(stall)
    unit = CompactMemory(CONFIGURATION)
    words = [generator.getrandbits(64) for _ in range(DEPTH)]
    read_by_column: list[tuple[int, int]] = []
    read_by_host: list[tuple[int, int]] = []
    written = {}

    async def fill(ctx: Any) -> None:
        for address, word in enumerate(words):
            await put(ctx, unit.host_write, {"address": address, "data": word, "mask": 0b11}, 0)

    async def column(ctx: Any) -> None:
        await ctx.tick().repeat(2 * DEPTH)
        stalls = STALLS[stall](1)
        for _ in range(60):
            address = generator.randrange(DEPTH // 2)
            await put(ctx, unit.read0, address, next(stalls))
            ctx.set(unit.hold, 1)
            await ctx.tick().repeat(next(stalls) + 1)
            read_by_column.append((address, ctx.get(unit.word0)))
            ctx.set(unit.hold, 0)

    async def column_writes(ctx: Any) -> None:
        await ctx.tick().repeat(2 * DEPTH)
        stalls = STALLS[stall](2)
        for address in range(DEPTH // 2, 3 * DEPTH // 4):
            mask, data = generator.randint(1, 3), generator.getrandbits(64)
            keep = sum(0xFFFFFFFF << 32 * half for half in range(2) if not mask >> half & 1)
            written[address] = (data & ~keep) | (words[address] & keep)
            await put(ctx, unit.write0, {"address": address, "data": data, "mask": mask}, next(stalls) + 1)

    async def host(ctx: Any) -> None:
        await ctx.tick().repeat(2 * DEPTH)
        stalls = STALLS[stall](3)
        for address in range(3 * DEPTH // 4, DEPTH):
            written[address] = generator.getrandbits(64)
            await put(ctx, unit.host_write, {"address": address, "data": written[address], "mask": 0b11}, next(stalls))
        await ctx.tick().repeat(200)
        for address in generator.sample(range(DEPTH), DEPTH):
            ctx.set(unit.host_read.payload, address)
            ctx.set(unit.host_read.valid, 1)
            ready = False
            while not ready:
                _, _, ready, valid, word = await ctx.tick().sample(
                    unit.host_read.ready, unit.host_word_valid, unit.host_word
                )
                assert valid == ready
            read_by_host.append((address, word))
            ctx.set(unit.host_read.valid, 0)
            await ctx.tick().repeat(next(stalls) + 1)

    run(unit, fill, column, column_writes, host)
    assert all(word == words[address] for address, word in read_by_column)
    assert len(read_by_host) == DEPTH
    for address, word in read_by_host:
        assert word == written.get(address, words[address])
