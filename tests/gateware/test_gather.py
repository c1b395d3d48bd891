"""The gather against a plain loop over the counts of each word."""

import random
from typing import Any

import pytest

from gateware.gathering import CONFIGURATION, NARROW, PAIRS, WHOLE, WIDE, events_of, paired_words, random_words
from gateware.simulate import describe, plain, run
from polyspike.cosim.streams import STALLS, get, send
from polyspike.gateware.gather import Gather
from polyspike.spec import Configuration


def compare(
    configuration: Configuration, passes: list[dict[str, int]], items: list[dict[str, int]], stall: str
) -> None:
    """Compare the events of words with those of a plain loop."""
    unit = Gather(configuration)
    expected = events_of(items, passes)
    got = []

    async def feed(ctx: Any) -> None:
        describe(ctx, unit, weights=passes)
        await send(ctx, unit.fetched, items, STALLS[stall](3))

    async def collect(ctx: Any) -> None:
        stalls = STALLS[stall](4)
        for event in expected:
            full = plain(await get(ctx, unit.event, next(stalls)))
            got.append({name: full[name] for name in event})

    run(unit, feed, collect)
    assert got == expected


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("other", [WIDE, WHOLE], ids=["wide", "whole"])
def test_events(stall: str, other: dict[str, int]) -> None:
    generator = random.Random(f"{stall} {other}")
    passes = [NARROW, other]
    compare(CONFIGURATION, passes, random_words(generator, passes, 60), stall)


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("other", [NARROW, WHOLE], ids=["narrow", "whole"])
def test_events_of_pairs(stall: str, other: dict[str, int]) -> None:
    generator = random.Random(f"{stall} {other}")
    passes = [{**NARROW, "positive": 7}, other]
    compare(PAIRS, passes, paired_words(generator, passes, 60), stall)


@pytest.mark.parametrize("other", [WIDE, WHOLE], ids=["wide", "whole"])
def test_single_positions_where_there_are_pairs(other: dict[str, int]) -> None:
    """Their words come with nothing beside them, and so do their counts."""
    passes = [NARROW, other]
    items = [{**word, "other": 0} for word in random_words(random.Random(0), passes, 60)]
    compare(PAIRS, passes, items, "random")


def test_one_event_a_cycle_without_gaps_between_words() -> None:
    unit = Gather(CONFIGURATION)
    two = {"word": 0x0300_0000_0000_0020, "marks": 0x4002, "several": 1, "row": 0}
    items = [two, {"word": 1, "marks": 1, "row": 16}] * 5
    valid: list[int] = []

    async def feed(ctx: Any) -> None:
        describe(ctx, unit, weights=[NARROW, NARROW])
        await send(ctx, unit.fetched, items, STALLS["none"](0))

    async def watch(ctx: Any) -> None:
        ctx.set(unit.event.ready, 1)
        for _ in range(25):
            _, _, event = await ctx.tick().sample(unit.event.valid)
            valid.append(int(event))

    run(unit, feed, watch)
    # Latency: the word is taken in cycle 0, its first event is offered in cycle 3; then 15 events in 15 cycles.
    assert valid[:19] == [0, 0, 0] + [1] * 15 + [0]
