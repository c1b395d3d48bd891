"""The fire unit against the definition of firing: floor division, clipping and soft reset in Python integers."""

import itertools
import random
from typing import Any

import pytest

from gateware.firing import fire, load, random_case, take
from gateware.simulate import describe, run
from polyspike.cosim.streams import STALLS, send
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
CONFIGURATIONS["16x2-8 dual"] = CONFIGURATIONS["16x2-8"].replace(negative_threshold=1)
CONFIGURATIONS["8x1-4 pairs"] = CONFIGURATIONS["8x1-4"].replace(pairs=1)
CONFIGURATIONS["16x2-8 pairs"] = CONFIGURATIONS["16x2-8"].replace(pairs=1)


@pytest.mark.parametrize("dual", [0, 1])
@pytest.mark.parametrize("count_bits", [4, 8])
def test_threshold_matches_floor_division(count_bits: int, dual: int) -> None:
    unit = Threshold(membrane_bits=12, threshold_bits=6, count_bits=count_bits, negative_threshold=dual)
    generator = random.Random(count_bits)
    most = (1 << count_bits) - 1
    cases = []
    for v in [*range(-260, 260), -2048, -2047, 2047]:
        theta = generator.choice([1, 1, 2, 3, 7, generator.randint(1, 63), 63])
        lo = generator.choice([0, 1, generator.randint(0, most // 2), 1 << (count_bits - 1)])
        n_pos = generator.choice([1, generator.randint(1, most - lo), most - lo])
        cases.append((v, theta, lo, n_pos, generator.choice([0, 1, theta, 63]) if dual else 0))
    results = []

    async def feed(ctx: Any) -> None:
        ctx.set(unit.enable, 1)
        for index in range(len(cases) + unit.latency):
            if index < len(cases):
                v, theta, lo, n_pos, theta_neg = cases[index]
                given = {"v": v, "theta": theta, "lo": lo, "n_pos": n_pos, "fires": 1}
                ctx.set(unit.i, given | ({"theta_neg": theta_neg} if dual else {}))
            if index >= unit.latency:
                results.append((ctx.get(unit.o.count), ctx.get(unit.o.rest)))
            await ctx.tick()

    run(unit, feed)
    assert results == [fire(*case) for case in cases]


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("kind", list(FireKind))
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_fire_matches_the_definition(name: str, kind: FireKind, stall: str) -> None:
    configuration = CONFIGURATIONS[name].replace(probabilistic=int(kind == FireKind.PROBABILISTIC))
    unit = Fire(configuration)
    case = random_case(configuration, random.Random(f"{name} {kind} {stall}"), kind)
    got: list[tuple[int, int, int]] = []
    finished = []

    async def feed(ctx: Any) -> None:
        await load(ctx, unit, case)
        await send(ctx, unit.sums, case.sums, STALLS[stall](1))

    async def feed_tags(ctx: Any) -> None:
        await send(ctx, unit.tag, case.tags, STALLS[stall](3))

    async def collect(ctx: Any) -> None:
        got.extend(await take(ctx, unit, case, STALLS[stall](2)))
        await ctx.tick().repeat(40)

    async def count_done(ctx: Any) -> None:
        while True:
            _, _, done = await ctx.tick().sample(unit.done)
            finished.append(done)

    run(unit, feed, feed_tags, collect, background=(count_done,))
    assert got == case.words
    assert sum(finished) == len(case.tags)


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
    # With pairs a sum is not copied before it is fired, but offered until it has been.
    begun = taken[0] - groups * configuration.pairs
    assert words[0] - begun == 9 + configuration.count_bits + per_word
