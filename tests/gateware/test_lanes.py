"""The lanes against sums in Python integers."""

import random
from typing import Any

import pytest

from gateware.simulate import describe, run
from polyspike.cosim.streams import STALLS, get, send
from polyspike.gateware.lanes import Lanes
from polyspike.spec import Configuration
from polyspike.spec.instructions import PassMode

ROWS = 64
NOTHING = -1000


def configuration(lanes: int) -> Configuration:
    return Configuration(
        name="test", columns=1, lanes=lanes, weight_depth=ROWS, spike_depth=64, param_depth=64, program_depth=64
    )


def counts_of(word: int, weights: dict[str, int], lanes: int, sub: int) -> dict[int, int]:
    """Return the counts of an elementwise word, by lane."""
    bits = 8 if weights["wide"] else 4
    codes = [word >> (bits * index) & ((1 << bits) - 1) for index in range(64 // bits)]
    counts = [code - (1 << bits) if code > weights["positive"] else code for code in codes]
    if len(counts) >= lanes:
        part = sub * lanes % len(counts) if not weights["wide"] else 0
        return {lane: counts[part + lane] for lane in range(lanes)}
    return {sub * len(counts) + index: count for index, count in enumerate(counts)}


def add(sums: list[int], event: dict[str, int], passes: list[dict[str, int]], bank: list[list[int]]) -> None:
    """Add an event to the sums, in place."""
    weights, lanes = passes[event["slot"]], len(sums)
    row = bank[event["row"]]
    if weights["mode"] == PassMode.BROADCAST:
        for lane in range(lanes):
            sums[lane] += (row[lane] * event["count"]) << weights["shift"]
    elif weights["mode"] == PassMode.RAW:
        for half in range(2):
            value = event["word"] >> (32 * half) & 0xFFFFFFFF
            sums[2 * event["sub"] + half] += value - (1 << 32 if value >> 31 else 0)
    else:
        for lane, count in counts_of(event["word"], weights, lanes, event["sub"]).items():
            if weights["mode"] == PassMode.MAXIMUM:
                sums[lane] = max(sums[lane], count)
            else:
                sums[lane] += (row[lane] * count) << weights["shift"]


def a_pass(mode: PassMode, wide: int, positive: int, shift: int = 0) -> dict[str, int]:
    return {"mode": mode, "wide": wide, "positive": positive, "shift": shift}


PASSES = {
    "conv+identity": [a_pass(PassMode.BROADCAST, 0, 15), a_pass(PassMode.ELEMENTWISE, 0, 7, 7)],
    "conv+identity wide": [a_pass(PassMode.BROADCAST, 1, 127, 2), a_pass(PassMode.ELEMENTWISE, 1, 127, 3)],
    "raw+conv": [a_pass(PassMode.RAW, 0, 0), a_pass(PassMode.BROADCAST, 0, 12)],
    "maximum": [a_pass(PassMode.MAXIMUM, 0, 7), a_pass(PassMode.MAXIMUM, 0, 7)],
    "maximum wide": [a_pass(PassMode.MAXIMUM, 1, 255), a_pass(PassMode.MAXIMUM, 1, 255)],
}


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("name", PASSES)
def test_sums(name: str, lanes: int, stall: str) -> None:
    generator = random.Random(f"{name} {lanes} {stall}")
    unit = Lanes(configuration(lanes))
    passes = PASSES[name]
    bank = [[generator.choice([-127, 127, generator.randint(-127, 127)]) for _ in range(lanes)] for _ in range(ROWS)]
    maximum = name.startswith("maximum")
    events, expected = [], []
    for _ in range(12):
        # A lane that no word is for has the maximum of nothing.
        sums = [NOTHING if maximum else 0] * lanes
        for left in reversed(range(generator.choice([1, 2, 9]))):
            slot = generator.randint(0, 1)
            weights = passes[slot]
            event = {
                "row": generator.randint(0, ROWS - 1),
                "count": 0,
                "word": generator.getrandbits(64),
                "slot": slot,
                "sub": 0,
                "add": int(maximum or generator.random() < 0.9),
                "last": int(left == 0),
            }
            if weights["mode"] == PassMode.BROADCAST:
                event["count"] = generator.choice([-128, 255, generator.randint(-128, 255)])
            elif weights["mode"] == PassMode.RAW:
                # Raw sums are membranes: 24 bits, sign-extended.
                halves = [generator.randint(-(1 << 20), 1 << 20) & 0xFFFFFFFF for _ in range(2)]
                event["word"] = halves[0] | halves[1] << 32
                event["sub"] = generator.randint(0, lanes // 2 - 1)
            elif weights["wide"] == (lanes == 16):
                event["sub"] = generator.randint(0, 1)
            if event["add"]:
                add(sums, event, passes, bank)
            events.append(event)
        expected.append([0 if each == NOTHING else each for each in sums])
    got = []

    async def feed(ctx: Any) -> None:
        describe(ctx, unit, weights=passes)
        ctx.set(unit.write_enable, 1)
        for row, weights in enumerate(bank):
            for part in range(lanes // 8):
                data = sum((weights[8 * part + byte] & 0xFF) << (8 * byte) for byte in range(8))
                ctx.set(unit.write, {"address": row * (lanes // 8) + part, "data": data})
                await ctx.tick()
        ctx.set(unit.write_enable, 0)
        await send(ctx, unit.event, events, STALLS[stall](5))

    async def collect(ctx: Any) -> None:
        stalls = STALLS[stall](6)
        for _ in expected:
            sums = list(await get(ctx, unit.sums, next(stalls)))
            # Of a maximum, only the bits of a count mean something.
            got.append([(each + 256) % 512 - 256 for each in sums] if maximum else sums)

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
