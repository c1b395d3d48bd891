"""The compact fire unit against the definition of firing, as in test_fire."""

import itertools
import random
from typing import Any

import pytest

from gateware.firing import load, random_case, take
from gateware.simulate import describe, run
from polyspike.cosim.streams import STALLS, put, send
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


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("kind", list(FireKind))
@pytest.mark.parametrize("dual", [0, 1])
@pytest.mark.parametrize("count_bits", CONFIGURATIONS)
def test_fire_matches_the_definition(count_bits: int, dual: int, kind: FireKind, stall: str) -> None:
    configuration = CONFIGURATIONS[count_bits].replace(
        negative_threshold=dual, probabilistic=int(kind == FireKind.PROBABILISTIC)
    )
    unit = CompactFire(configuration)
    case = random_case(configuration, random.Random(f"{count_bits} {dual} {kind} {stall}"), kind)
    got: list[tuple[int, int, int]] = []

    async def parameters(ctx: Any) -> None:
        await load(ctx, unit, case)
        stalls = STALLS[stall](1)
        for tag in case.tags:
            await put(ctx, unit.tag, tag, next(stalls))

    async def feed(ctx: Any) -> None:
        await ctx.tick().repeat(2 * LANES)
        await send(ctx, unit.sums, list(itertools.chain.from_iterable(case.sums)), STALLS["none"](1))

    async def collect(ctx: Any) -> None:
        got.extend(await take(ctx, unit, case, STALLS[stall](2)))

    run(unit, parameters, feed, collect)
    assert got == case.words


@pytest.mark.parametrize(
    ("dual", "kind", "wide", "n_neg", "sum_", "lane_cycles", "words"),
    [
        (0, FireKind.SPIKE, 0, 0, 5, 8, 1),
        (0, FireKind.SPIKE, 0, 1, -5, 9, 1),
        (0, FireKind.SPIKE, 1, 0, 5, 13, 1),
        (1, FireKind.SPIKE, 0, 0, 5, 9, 1),
        (0, FireKind.MEMBRANE, 0, 0, 5, 11, 4),
        (0, FireKind.RAW, 0, 0, 5, 9, 4),
    ],
)
def test_rate(dual: int, kind: FireKind, wide: int, n_neg: int, sum_: int, lane_cycles: int, words: int) -> None:
    unit = CompactFire(CONFIGURATIONS[8].replace(negative_threshold=dual))
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
