"""The lanes against sums in Python integers."""

import itertools
import random
from typing import Any

import pytest

from gateware.adding import (
    PASSES,
    a_pass,
    bank_words,
    configuration,
    meaning,
    random_bank,
    random_sum,
    sums_of,
)
from gateware.simulate import describe, run
from polyspike.cosim.streams import STALLS, get, send
from polyspike.gateware.lanes import Lanes
from polyspike.spec.instructions import PassMode


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("name", PASSES)
def test_sums(name: str, lanes: int, stall: str) -> None:
    generator = random.Random(f"{name} {lanes} {stall}")
    unit = Lanes(configuration(lanes))
    passes = PASSES[name]
    bank = random_bank(generator, lanes)
    sums = [random_sum(generator, passes, bank) for _ in range(12)]
    expected = [sums_of(events, passes, bank) for events in sums]
    got = []

    async def feed(ctx: Any) -> None:
        describe(ctx, unit, weights=passes)
        ctx.set(unit.write_enable, 1)
        for address, word in bank_words(bank):
            ctx.set(unit.write, {"address": address, "data": word})
            await ctx.tick()
        ctx.set(unit.write_enable, 0)
        await send(ctx, unit.event, list(itertools.chain(*sums)), STALLS[stall](5))

    async def collect(ctx: Any) -> None:
        stalls = STALLS[stall](6)
        for _ in expected:
            got.append(meaning(list(await get(ctx, unit.sums, next(stalls))), passes))

    run(unit, feed, collect)
    assert got == expected


def test_one_event_a_cycle_and_latency() -> None:
    """Every other event ends a sum."""
    unit = Lanes(configuration(8))
    sums: list[int] = []
    ready: list[int] = []

    async def feed(ctx: Any) -> None:
        ctx.set(unit.event.valid, 1)
        ctx.set(unit.sums.ready, 1)
        for cycle in range(Lanes.LATENCY + 10):
            ctx.set(unit.event.payload, {"add": 1, "last": 1 - cycle % 2, "count": 1})
            _, _, is_ready, valid = await ctx.tick().sample(unit.event.ready, unit.sums.valid)
            ready.append(int(is_ready))
            sums.append(int(valid))

    run(unit, feed)
    assert ready == [1] * (Lanes.LATENCY + 10)
    assert sums == [0] * Lanes.LATENCY + [1, 0] * 5


def test_raw_sums_wait_for_the_multipliers_and_then_come_one_a_cycle() -> None:
    unit = Lanes(configuration(8))
    taken: list[int] = []

    async def feed(ctx: Any) -> None:
        describe(ctx, unit, weights=[a_pass(PassMode.BROADCAST, 0, 15), a_pass(PassMode.RAW, 0, 0)])
        ctx.set(unit.event.valid, 1)
        ctx.set(unit.sums.ready, 1)
        for slot in [0, 1, 1, 1]:
            ctx.set(unit.event.payload, {"add": 1, "count": 1, "slot": slot})
            cycles = 0
            ready = False
            while not ready:
                _, _, ready = await ctx.tick().sample(unit.event.ready)
                cycles += 1
            taken.append(cycles)

    run(unit, feed)
    # The first raw sum is taken into the first stage at once and waits there for the five stages behind it.
    assert taken == [1, 1, Lanes.LATENCY - 2, 1]
