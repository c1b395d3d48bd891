"""The lanes against sums in Python integers."""

import itertools
import random
from typing import Any

import pytest

from gateware.adding import (
    PAIRED_PASSES,
    PASSES,
    Bank,
    Event,
    Pass,
    a_pass,
    bank_words,
    configuration,
    corner_sums,
    meaning,
    paired_corners,
    paired_sum,
    paired_sums_of,
    random_bank,
    random_sum,
    sums_of,
)
from gateware.simulate import describe, run
from polyspike.cosim.streams import STALLS, get, send
from polyspike.gateware.lanes import Lanes
from polyspike.spec.instructions import PassMode


def compare(
    unit: Lanes, passes: list[Pass], bank: Bank, sums: list[list[Event]], expected: list[list[int]], stall: str
) -> None:
    """Compare the sums of events with those of Python."""
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
        if len(expected[0]) > unit.configuration.lanes:
            ctx.set(unit.paired, 1)
        stalls = STALLS[stall](6)
        for each in expected:
            # Of single positions, nothing is said about second ones.
            got.append(meaning(list(await get(ctx, unit.sums, next(stalls))), passes)[: len(each)])

    run(unit, feed, collect)
    assert got == expected


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("pairs", [0, 1])
@pytest.mark.parametrize("name", PASSES)
def test_sums(name: str, pairs: int, lanes: int, stall: str) -> None:
    """Of single positions, also where there are pairs."""
    generator = random.Random(f"{name} {lanes} {stall}")
    passes, bank = PASSES[name], random_bank(generator, lanes)
    sums = [random_sum(generator, passes, bank) for _ in range(12)]
    compare(
        Lanes(configuration(lanes, pairs)), passes, bank, sums, [sums_of(each, passes, bank) for each in sums], stall
    )


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("name", PAIRED_PASSES)
def test_sums_of_pairs(name: str, lanes: int, stall: str) -> None:
    generator = random.Random(f"{name} {lanes} {stall}")
    passes, bank = PAIRED_PASSES[name], random_bank(generator, lanes)
    sums = [paired_sum(generator, passes, bank) for _ in range(20)]
    expected = [paired_sums_of(each, passes, bank) for each in sums]
    compare(Lanes(configuration(lanes, 1)), passes, bank, sums, expected, stall)


@pytest.mark.parametrize("name", PAIRED_PASSES)
def test_extreme_sums_of_pairs(name: str) -> None:
    passes, bank = PAIRED_PASSES[name], random_bank(random.Random(0), 8)
    sums = paired_corners(passes, bank)
    expected = [paired_sums_of(each, passes, bank) for each in sums]
    compare(Lanes(configuration(8, 1)), passes, bank, sums, expected, "none")


@pytest.mark.parametrize("pairs", [0, 1])
@pytest.mark.parametrize("lanes", [8, 16])
def test_extreme_raw_sums(lanes: int, pairs: int) -> None:
    """Also where they pass the multipliers in parts."""
    passes, bank = PASSES["raw+conv"], random_bank(random.Random(0), lanes)
    sums = corner_sums(passes, lanes)
    expected = [sums_of(each, passes, bank) for each in sums]
    compare(Lanes(configuration(lanes, pairs)), passes, bank, sums, expected, "none")


@pytest.mark.parametrize("paired", [0, 1])
def test_one_event_a_cycle_and_latency(paired: int) -> None:
    """Two events make a sum, or both sums of a pair."""
    unit = Lanes(configuration(8, paired))
    latency = 8 - paired
    assert unit.latency == latency
    sums: list[int] = []
    ready: list[int] = []

    async def feed(ctx: Any) -> None:
        if paired:
            ctx.set(unit.paired, 1)
        ctx.set(unit.event.valid, 1)
        ctx.set(unit.sums.ready, 1)
        for cycle in range(latency + 12):
            ctx.set(unit.event.payload, {"add": 1, "last": int(cycle % 2 == 0), "count": 1})
            _, _, is_ready, valid = await ctx.tick().sample(unit.event.ready, unit.sums.valid)
            ready.append(int(is_ready))
            sums.append(int(valid))

    run(unit, feed)
    assert ready == [1] * (latency + 12)
    assert sums == [0] * latency + [1, 0] * 6


@pytest.mark.parametrize("pairs", [0, 1])
def test_raw_sums_wait_for_the_multipliers_or_pass_them_in_two_parts(pairs: int) -> None:
    unit = Lanes(configuration(8, pairs))
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
    # Without pairs, the first raw sum is taken into the first stage at once and waits there for the five stages behind
    # it; then they come one a cycle.
    assert taken == ([1, 1, 2, 2] if pairs else [1, 1, 6, 1])
