"""Gather and lanes of a compact column against plain loops."""

import random
from typing import Any

import pytest

from gateware.simulate import describe, plain, run
from polyspike.cosim.streams import STALLS, get, put, send
from polyspike.gateware.compact_gather import CompactGather
from polyspike.gateware.compact_lanes import CompactLanes
from polyspike.gateware.compact_memory import CompactMemory
from polyspike.spec import Configuration
from polyspike.spec.instructions import PassMode

LANES, ROWS, DEPTH = 8, 256, 64

CONFIGURATION = Configuration(
    name="test",
    columns=1,
    lanes=LANES,
    weight_depth=ROWS,
    spike_depth=DEPTH,
    param_depth=64,
    program_depth=64,
    compact=1,
)

Step = dict[str, int]


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def random_step(generator: random.Random) -> Step:
    mode = generator.choice(list(PassMode))
    step = {
        "address": generator.randrange(DEPTH),
        "row": generator.randrange(ROWS - 16),
        "mode": mode,
        "wide": generator.randint(0, 1),
        "slot": generator.randint(0, 1),
        "sub": generator.randint(0, 1),
        "last": int(generator.random() < 0.3),
        "blank": 0,
    }
    if step["last"] and generator.random() < 0.2:
        step["blank"] = 1
    return step


def codes_of(step: Step, word: int) -> list[tuple[int, int]]:
    """Return (number in the word, code) of the counts that give events."""
    bits = 8 if step["wide"] else 4
    codes = [(index, word >> bits * index & (1 << bits) - 1) for index in range(64 // bits)]
    if step["mode"] in (PassMode.ELEMENTWISE, PassMode.MAXIMUM) and not step["wide"]:
        codes = codes[LANES * step["sub"] :][:LANES]
    return codes if step["mode"] == PassMode.MAXIMUM else [each for each in codes if each[1]]


def events_of(step: Step, word: int) -> list[dict[str, int]]:
    """Return the events of a word, without what does not matter for their kind."""
    common = {"mode": step["mode"], "slot": step["slot"], "add": 1, "last": 0}
    events: list[dict[str, int]] = []
    if step["blank"]:
        pass
    elif step["mode"] == PassMode.RAW:
        events = [{**common, "raw": signed(word >> 32 * half & 0xFFFFFF, 24)} for half in range(2)]
    else:
        for index, code in codes_of(step, word):
            event = {**common, "code": code, "wide": step["wide"], "raw": 0}
            if step["mode"] == PassMode.BROADCAST:
                event["row"] = step["row"] + index
            else:
                event |= {"lane": index % LANES, "row": step["row"]}
            events.append(event)
    if not events and step["last"]:
        events = [{"add": 0, "last": 0}]
    if events:
        events[-1]["last"] = step["last"]
    return events


@pytest.mark.parametrize("stall_in", STALLS)
@pytest.mark.parametrize("stall_out", STALLS)
def test_gather(stall_in: str, stall_out: str) -> None:
    generator = random.Random(f"{stall_in} {stall_out}")
    unit = CompactGather(CONFIGURATION)
    memory = []
    for _ in range(DEPTH):
        density = generator.choice([0, 0.1, 0.5, 1])
        memory.append(sum(generator.randint(1, 15) << 4 * n for n in range(16) if generator.random() < density))
    steps = [random_step(generator) for _ in range(120)]
    steps[-1]["last"] = 1
    expected = [event for step in steps for event in events_of(step, memory[step["address"]])]
    dropped = sum(
        step["mode"] != PassMode.RAW and not step["blank"] and not codes_of(step, memory[step["address"]])
        for step in steps
    )
    got, zero_words = [], []

    async def feed(ctx: Any) -> None:
        await send(ctx, unit.step, steps, STALLS[stall_in](3))

    async def serve(ctx: Any) -> None:
        """Be the spike memory: grant requests now and then, and spoil the word whenever it is not held."""
        stalls = STALLS[stall_in](5)
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
        stalls = STALLS[stall_out](4)
        for event in expected:
            full = plain(await get(ctx, unit.event, next(stalls)))
            full["raw"] = signed(full["raw"] & 0xFFFFFF, 24)
            got.append({name: full[name] for name in event})
        await ctx.tick().repeat(5)

    run(unit, feed, collect, background=(serve,))
    assert got == expected
    assert sum(zero_words) == dropped


def random_sum(generator: random.Random, modes: list[PassMode], passes: list[dict[str, int]]) -> list[dict[str, int]]:
    """Return the events of a sum: whole tiles of maxima and raw sums, whatever else in between."""
    events: list[dict[str, int]] = []
    for _ in range(generator.randint(1, 4)):
        slot = generator.randint(0, 1)
        mode = modes[slot]
        wide = passes[slot]["wide"]
        for lane in range(LANES):
            event = {"slot": slot, "mode": mode, "wide": wide, "add": 1, "last": 0, "lane": lane, "raw": 0}
            event |= {"code": generator.randrange(256 if wide else 16), "row": generator.randrange(ROWS)}
            if mode == PassMode.RAW:
                event["raw"] = generator.randint(-(1 << 20), 1 << 20)
            events.append(event)
    if generator.random() < 0.2:
        events.append({"add": 0, "last": 0})
    events[-1]["last"] = 1
    return events


def total_of(events: list[dict[str, int]], passes: list[dict[str, int]], bank: list[list[int]]) -> list[int]:
    sums = [0] * LANES
    best: list[int | None] = [None] * LANES
    for event in events:
        if not event["add"]:
            continue
        weights, lane = passes[event["slot"]], event["lane"]
        bits = 8 if event["wide"] else 4
        count = event["code"] - (1 << bits) if event["code"] > weights["positive"] else event["code"]
        shift = weights["shift"]
        if event["mode"] == PassMode.BROADCAST:
            sums = [total + (bank[event["row"]][i] * count << shift) for i, total in enumerate(sums)]
        elif event["mode"] == PassMode.ELEMENTWISE:
            sums[lane] += bank[event["row"]][lane] * count << shift
        elif event["mode"] == PassMode.RAW:
            sums[lane] += event["raw"]
        else:
            before = best[lane]
            best[lane] = count if before is None else max(before, count)
    return [total if most is None else most for total, most in zip(sums, best, strict=True)]


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize(
    "modes",
    [
        (PassMode.BROADCAST, PassMode.ELEMENTWISE),
        (PassMode.RAW, PassMode.BROADCAST),
        (PassMode.ELEMENTWISE, PassMode.RAW),
        (PassMode.MAXIMUM, PassMode.MAXIMUM),
    ],
)
def test_lanes(modes: tuple[PassMode, PassMode], stall: str) -> None:
    generator = random.Random(f"{modes} {stall}")
    unit = CompactLanes(CONFIGURATION)
    wide = generator.randint(0, 1)
    passes = [
        {"wide": wide, "positive": generator.choice([100, 255] if wide else [7, 12, 15]), "shift": shift}
        for shift in (0, 3)
    ]
    bank = [[generator.choice([-127, 127, generator.randint(-127, 127)]) for _ in range(LANES)] for _ in range(ROWS)]
    sums = [random_sum(generator, list(modes), passes) for _ in range(10)]
    expected = [total for events in sums for total in total_of(events, passes, bank)]
    got: list[int] = []

    async def feed(ctx: Any) -> None:
        describe(ctx, unit, weights=passes)
        ctx.set(unit.write_enable, 1)
        for row, weights in enumerate(bank):
            word = sum((weight & 0xFF) << (8 * lane) for lane, weight in enumerate(weights))
            ctx.set(unit.write, {"address": row, "data": word})
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
