"""The fire unit against the definition of firing: floor division, clipping and soft reset in Python integers."""

import itertools
import random
from typing import Any

import pytest

from gateware.simulate import describe, run
from polyspike.cosim.streams import STALLS, get, put
from polyspike.gateware.fire import Fire, Threshold
from polyspike.spec import Configuration
from polyspike.spec.instructions import FireKind

CONFIGURATIONS = {
    f"{lanes}x{width}-{bits}": Configuration(
        name="test",
        columns=1,
        lanes=lanes,
        weight_depth=64,
        spike_depth=64,
        param_depth=64,
        program_depth=64,
        fire_width=width,
        count_bits=bits,
    )
    for lanes, width, bits in ((8, 1, 4), (8, 2, 8), (16, 1, 8), (16, 2, 8))
}


def fire(v: int, theta: int, lo: int, n_pos: int) -> tuple[int, int]:
    """Return (spike count, membrane after its reset)."""
    count = max(-lo, min(n_pos, v // theta))
    return count, v - theta * count


@pytest.mark.parametrize("count_bits", [4, 8])
def test_threshold_matches_floor_division(count_bits: int) -> None:
    unit = Threshold(membrane_bits=12, threshold_bits=6, count_bits=count_bits)
    generator = random.Random(count_bits)
    most = (1 << count_bits) - 1
    cases = []
    for v in [*range(-260, 260), -2048, -2047, 2047]:
        theta = generator.choice([1, 1, 2, 3, 7, generator.randint(1, 63), 63])
        lo = generator.choice([0, 1, generator.randint(0, most // 2), 1 << (count_bits - 1)])
        cases.append((v, theta, lo, generator.choice([1, generator.randint(1, most - lo), most - lo])))
    results = []

    async def feed(ctx: Any) -> None:
        ctx.set(unit.enable, 1)
        for index in range(len(cases) + unit.latency):
            if index < len(cases):
                v, theta, lo, n_pos = cases[index]
                ctx.set(unit.i, {"v": v, "theta": theta, "lo": lo, "n_pos": n_pos, "fires": 1})
            if index >= unit.latency:
                results.append((ctx.get(unit.o.count), ctx.get(unit.o.rest)))
            await ctx.tick()

    run(unit, feed)
    assert results == [fire(*case) for case in cases]


def extremes(configuration: Configuration, generator: random.Random, kind: FireKind, wide: bool) -> dict[str, Any]:
    """Return descriptors of a layer with random limits."""
    most = 255 if wide else 15
    n_neg = generator.choice([0, generator.randint(0, (most + 1) // 2)])
    n_pos = generator.choice([1, generator.randint(1, most - n_neg), most - n_neg])
    rectified = generator.choice([0, 1])
    return {"kind": kind, "wide": int(wide), "n_neg": n_neg, "n_pos": n_pos, "rectified": rectified, "params": 0}


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("kind", list(FireKind))
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_fire_matches_the_definition(name: str, kind: FireKind, stall: str) -> None:
    configuration = CONFIGURATIONS[name]
    generator = random.Random(f"{name} {kind} {stall}")
    lanes, wide = configuration.lanes, configuration.count_bits == 8 and generator.random() < 0.7
    unit = Fire(configuration)
    layer = extremes(configuration, generator, kind, wide)
    first_channel = lanes * generator.randint(0, 64 // lanes - 1)
    layer["params"] = first_channel
    theta = [generator.choice([1, generator.randint(1, 300), (1 << 19) - 1]) for _ in range(lanes)]
    bias = [generator.randint(-1000, 1000) for _ in range(lanes)]
    v0 = [generator.choice([0, each // 2]) for each in theta]

    sums, tags, expected = [], [], []
    bits = 8 if wide else 4
    for _ in range(4):
        membranes = list(v0)
        emitted = [0] * lanes
        timesteps = generator.randint(1, 3)
        for time in range(timesteps):
            total = [
                generator.choice(
                    [0, generator.randint(-3 * theta[lane], 20 * theta[lane]), generator.randint(-50, 50), -(1 << 20)]
                )
                for lane in range(lanes)
            ]
            total = [max(-(1 << 21), min((1 << 21) - 1, each)) for each in total]
            address, upper = generator.randint(0, 50), generator.randint(0, 1)
            sums.append(total)
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
            for lane in range(lanes):
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
            if lanes * value_bits < 64:
                expected.append((address, packed << (32 * upper), 0b10 if upper else 0b01))
            else:
                for index in range(lanes * value_bits // 64):
                    expected.append((address + index, packed >> (64 * index) & (1 << 64) - 1, 0b11))

    got: list[tuple[int, int, int]] = []
    finished = []

    async def parameters(ctx: Any) -> None:
        describe(ctx, unit, fire=layer)
        ctx.set(unit.write_enable, 1)
        for lane in range(lanes):
            for part, word in enumerate((theta[lane] | (bias[lane] & 0xFFFFFFFF) << 32, v0[lane] & 0xFFFFFFFF)):
                ctx.set(unit.write, {"address": 2 * (first_channel + lane) + part, "data": word})
                await ctx.tick()
        ctx.set(unit.write_enable, 0)
        stalls = STALLS[stall](1)
        for total, tag in zip(sums, tags, strict=True):
            ctx.set(unit.tag.payload, tag)
            ctx.set(unit.tag.valid, 1)
            await put(ctx, unit.sums, total, next(stalls))
        ctx.set(unit.tag.valid, 0)

    async def collect(ctx: Any) -> None:
        stalls = STALLS[stall](2)
        for _ in expected:
            word = await get(ctx, unit.words, next(stalls))
            mask = word.mask
            data = word.data & (0xFFFFFFFF if mask == 1 else 0xFFFFFFFF << 32 if mask == 2 else (1 << 64) - 1)
            got.append((word.address, data, mask))
        await ctx.tick().repeat(40)

    async def count_done(ctx: Any) -> None:
        while True:
            _, _, done = await ctx.tick().sample(unit.done)
            finished.append(done)

    run(unit, parameters, collect, background=(count_done,))
    assert got == expected
    assert sum(finished) == len(sums)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_rate_and_latency(name: str) -> None:
    """A sum every lanes / fire_width + 1 cycles; the first word after the documented latency."""
    configuration = CONFIGURATIONS[name]
    unit = Fire(configuration)
    groups = configuration.lanes // configuration.fire_width
    per_word = min(16, configuration.lanes) // configuration.fire_width
    taken: list[int] = []
    words: list[int] = []

    async def feed(ctx: Any) -> None:
        describe(ctx, unit, fire={"kind": FireKind.SPIKE, "n_pos": 15, "wide": 0})
        ctx.set(unit.tag.payload, {"first": 1, "last": 1})
        ctx.set(unit.tag.valid, 1)
        ctx.set(unit.sums.valid, 1)
        ctx.set(unit.words.ready, 1)
        for cycle in range(120):
            _, _, sum_taken, word = await ctx.tick().sample(unit.sums.ready, unit.words.valid)
            if sum_taken:
                taken.append(cycle)
            if word:
                words.append(cycle)

    run(unit, feed)
    assert {b - a for a, b in itertools.pairwise(taken)} == {groups + 1}
    assert {b - a for a, b in itertools.pairwise(words)} == {groups + 1}
    assert words[0] - taken[0] == 8 + configuration.count_bits + per_word
