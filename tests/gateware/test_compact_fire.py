"""The compact fire unit against the definition of firing, as in test_fire."""

import itertools
import random
from typing import Any

import pytest

from gateware.simulate import describe, run
from gateware.test_fire import extremes, fire
from polyspike.cosim.streams import STALLS, get, put, send
from polyspike.gateware.compact_fire import CompactFire
from polyspike.spec import Configuration
from polyspike.spec.instructions import FireKind

LANES = 8

CONFIGURATIONS = {
    bits: Configuration(
        name="test",
        columns=1,
        lanes=LANES,
        weight_depth=64,
        spike_depth=64,
        param_depth=64,
        program_depth=64,
        compact=1,
        count_bits=bits,
    )
    for bits in (4, 8)
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("kind", list(FireKind))
@pytest.mark.parametrize("count_bits", CONFIGURATIONS)
def test_fire_matches_the_definition(count_bits: int, kind: FireKind, stall: str, seed: int) -> None:
    configuration = CONFIGURATIONS[count_bits]
    generator = random.Random(f"{count_bits} {kind} {stall} {seed}")
    wide = count_bits == 8 and generator.random() < 0.7
    unit = CompactFire(configuration)
    layer = extremes(configuration, generator, kind, wide)
    first_channel = LANES * generator.randint(0, 64 // LANES - 1)
    layer["params"] = first_channel
    theta = [generator.choice([1, generator.randint(1, 300), (1 << 19) - 1]) for _ in range(LANES)]
    bias = [generator.randint(-1000, 1000) for _ in range(LANES)]
    v0 = [generator.choice([0, each // 2]) for each in theta]

    sums: list[int] = []
    tags, expected = [], []
    bits = 8 if wide else 4
    for _ in range(4):
        membranes = list(v0)
        emitted = [0] * LANES
        timesteps = generator.randint(1, 3)
        for time in range(timesteps):
            total = [
                generator.choice(
                    [0, generator.randint(-3 * theta[lane], 20 * theta[lane]), generator.randint(-50, 50), -(1 << 20)]
                )
                for lane in range(LANES)
            ]
            total = [max(-(1 << 21), min((1 << 21) - 1, each)) for each in total]
            address, upper = generator.randint(0, 50), generator.randint(0, 1)
            sums += total
            tags.append(
                {
                    "output": address,
                    "params": first_channel,
                    "upper": upper,
                    "first": time == 0,
                    "last": time == timesteps - 1,
                }
            )
            counts = []
            for lane in range(LANES):
                membranes[lane] += total[lane] + bias[lane]
                if kind == FireKind.SPIKE:
                    lo = min(layer["n_neg"], emitted[lane]) if layer["rectified"] else layer["n_neg"]
                    count, membranes[lane] = fire(membranes[lane], theta[lane], lo, layer["n_pos"])
                    emitted[lane] += count
                    counts.append(count & ((1 << bits) - 1))
            values, value_bits = {
                FireKind.SPIKE: (counts, bits),
                FireKind.MEMBRANE: (membranes, 32),
                FireKind.RAW: (total, 32),
            }[kind]
            if kind == FireKind.MEMBRANE and time < timesteps - 1:
                continue
            packed = sum((value & ((1 << value_bits) - 1)) << (value_bits * at) for at, value in enumerate(values))
            if LANES * value_bits < 64:
                expected.append((address, packed << (32 * upper), 0b10 if upper else 0b01))
            else:
                for index in range(LANES * value_bits // 64):
                    expected.append((address + index, packed >> (64 * index) & (1 << 64) - 1, 0b11))

    got: list[tuple[int, int, int]] = []

    async def parameters(ctx: Any) -> None:
        describe(ctx, unit, fire=layer)
        ctx.set(unit.write_enable, 1)
        for lane in range(LANES):
            for part, word in enumerate((theta[lane] | (bias[lane] & 0xFFFFFFFF) << 32, v0[lane] & 0xFFFFFFFF)):
                ctx.set(unit.write, {"address": 2 * (first_channel + lane) + part, "data": word})
                await ctx.tick()
        ctx.set(unit.write_enable, 0)
        stalls = STALLS[stall](1)
        for tag in tags:
            await put(ctx, unit.tag, tag, next(stalls))

    async def feed(ctx: Any) -> None:
        await ctx.tick().repeat(2 * LANES)
        await send(ctx, unit.sums, sums, STALLS["none"](1))

    async def collect(ctx: Any) -> None:
        stalls = STALLS[stall](2)
        for _ in expected:
            word = await get(ctx, unit.words, next(stalls))
            mask = word.mask
            data = word.data & (0xFFFFFFFF if mask == 1 else 0xFFFFFFFF << 32 if mask == 2 else (1 << 64) - 1)
            got.append((word.address, data, mask))

    run(unit, parameters, feed, collect)
    assert got == expected


@pytest.mark.parametrize(
    ("kind", "wide", "n_neg", "sum_", "lane_cycles", "words"),
    [
        (FireKind.SPIKE, 0, 0, 5, 8, 1),
        (FireKind.SPIKE, 0, 1, -5, 9, 1),
        (FireKind.SPIKE, 1, 0, 5, 13, 1),
        (FireKind.MEMBRANE, 0, 0, 5, 11, 4),
        (FireKind.RAW, 0, 0, 5, 9, 4),
    ],
)
def test_rate(kind: FireKind, wide: int, n_neg: int, sum_: int, lane_cycles: int, words: int) -> None:
    unit = CompactFire(CONFIGURATIONS[8])
    ends: list[int] = []

    async def feed(ctx: Any) -> None:
        describe(ctx, unit, fire={"kind": kind, "n_pos": 15, "n_neg": n_neg, "wide": wide})
        ctx.set(unit.tag.payload, {"first": 1, "last": 1})
        ctx.set(unit.tag.valid, 1)
        ctx.set(unit.sums.payload, sum_)
        ctx.set(unit.sums.valid, 1)
        ctx.set(unit.words.ready, 1)
        for cycle in range(400):
            _, _, end = await ctx.tick().sample(unit.tag.ready)
            ends.extend([cycle] if end else [])

    run(unit, feed)
    assert {after - before for before, after in itertools.pairwise(ends)} == {LANES * lane_cycles + words + 3}
