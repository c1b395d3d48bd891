"""The gather against a plain loop over the counts of each word."""

import random
from typing import Any

import pytest

from gateware.simulate import describe, plain, run
from polyspike.cosim.streams import STALLS, get, send
from polyspike.gateware.gather import Gather
from polyspike.spec import Configuration
from polyspike.spec.instructions import PassMode

CONFIGURATION = Configuration(
    name="test", columns=1, lanes=8, weight_depth=8192, spike_depth=64, param_depth=64, program_depth=64
)

#: Two passes: narrow broadcast with counts -3..12, and wide broadcast with counts -128..127.
NARROW = {"mode": PassMode.BROADCAST, "wide": 0, "positive": 12}
WIDE = {"mode": PassMode.BROADCAST, "wide": 1, "positive": 127}
WHOLE = {"mode": PassMode.ELEMENTWISE, "wide": 0, "positive": 15}


def fetched(generator: random.Random, weights: dict[str, int], density: float) -> dict[str, int]:
    """Return a random word as the fetch would hand it over."""
    bits = 8 if weights["wide"] else 4
    codes = [generator.randint(1, (1 << bits) - 1) if generator.random() < density else 0 for _ in range(64 // bits)]
    marks = sum((code != 0) << index for index, code in enumerate(codes))
    if weights["mode"] != PassMode.BROADCAST:
        marks = int(marks != 0)
    word = sum(code << (bits * index) for index, code in enumerate(codes))
    return {"word": word, "marks": marks, "row": generator.randint(0, 5000), "sub": generator.randint(0, 7)}


def expected_events(items: list[dict[str, int]], passes: list[dict[str, int]]) -> list[dict[str, int]]:
    """Return the events of words, without the fields that do not matter for their kind."""
    events = []
    for item in items:
        weights = passes[item["slot"]]
        bits = 8 if weights["wide"] else 4
        common = {"slot": item["slot"], "add": 1, "last": 0}
        if weights["mode"] != PassMode.BROADCAST:
            found = [{**common, "row": item["row"], "word": item["word"], "sub": item["sub"]}] if item["marks"] else []
        else:
            found = []
            for index in range(64 // bits):
                code = item["word"] >> (bits * index) & ((1 << bits) - 1)
                if code:
                    count = code - (1 << bits) if code > weights["positive"] else code
                    found.append({**common, "row": item["row"] + index, "count": count})
        if not found:
            found = [{"slot": item["slot"], "add": 0}]
        found[-1]["last"] = item["last"]
        events += found
    return events


@pytest.mark.parametrize("stall_in", STALLS)
@pytest.mark.parametrize("stall_out", STALLS)
@pytest.mark.parametrize("other", [WIDE, WHOLE], ids=["wide", "whole"])
def test_events(stall_in: str, stall_out: str, other: dict[str, int]) -> None:
    generator = random.Random(f"{stall_in} {stall_out} {other}")
    unit = Gather(CONFIGURATION)
    passes = [NARROW, other]
    items = []
    for index in range(60):
        slot = generator.randint(0, 1)
        item = fetched(generator, passes[slot], generator.choice([0.1, 0.5, 1.0]))
        if not item["marks"] or index % 7 == 0:
            item["last"] = 1
            if index % 14 == 0:
                item["word"] = item["marks"] = 0
        else:
            item["last"] = 0
        items.append({**item, "slot": slot})
    expected = expected_events(items, passes)
    got = []

    async def feed(ctx: Any) -> None:
        describe(ctx, unit, weights=passes)
        await send(ctx, unit.fetched, items, STALLS[stall_in](3))

    async def collect(ctx: Any) -> None:
        stalls = STALLS[stall_out](4)
        for event in expected:
            full = plain(await get(ctx, unit.event, next(stalls)))
            got.append({name: full[name] for name in event})

    run(unit, feed, collect)
    assert got == expected


def test_one_event_a_cycle_without_gaps_between_words() -> None:
    unit = Gather(CONFIGURATION)
    items = [{"word": 0x0300_0000_0000_0020, "marks": 0x4002, "row": 0}, {"word": 1, "marks": 1, "row": 16}] * 5
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
    # Latency: the word is taken in cycle 0, its first event is offered in cycle 2; then 15 events in 15 cycles.
    assert valid[:18] == [0, 0] + [1] * 15 + [0]
