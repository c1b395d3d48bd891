"""The fetch against the loop nest of the instruction set's description."""

import random
from typing import Any

import pytest

from gateware.simulate import describe, plain, run
from polyspike.compiler.mapping import PASS_CYCLES, POSITION_CYCLES, SKIP_CYCLES, TAP_CYCLES
from polyspike.cosim.streams import STALLS, get, put
from polyspike.gateware.fetch import Fetch, Walk
from polyspike.gateware.spike_memory import READ_LATENCY
from polyspike.spec import Configuration
from polyspike.spec.instructions import COMMON_FIRES, FireKind, PassMode

DEPTH = 256


def configuration(lanes: int) -> Configuration:
    return Configuration(
        name="test", columns=1, lanes=lanes, weight_depth=2048, spike_depth=DEPTH, param_depth=64, program_depth=64
    )


def random_pass(generator: random.Random, lanes: int) -> dict[str, dict[str, int]]:
    """Return random descriptors of a pass, with what SETUP derives from them."""
    mode = generator.choice(list(PassMode))
    wide = generator.randint(0, 1)
    words = {
        PassMode.BROADCAST: generator.randint(1, 3),
        PassMode.RAW: lanes // 2,
    }.get(mode, max(1, lanes * (8 if wide else 4) // 64))
    kernel_h, kernel_w = generator.randint(1, 3), generator.randint(1, 3)
    per_word = 8 if wide else 16
    shared = generator.randint(0, 1)
    row_tap = 0 if shared else words * per_word if mode == PassMode.BROADCAST else 1
    return {
        "source": {"row_pitch": generator.randint(0, 90), "pixel_pitch": 9, "time_pitch": generator.randint(0, 70)},
        "window": {
            "height": generator.randint(1, 4),
            "width": generator.randint(1, 4),
            "kernel_h": kernel_h,
            "kernel_w": kernel_w,
        },
        "weights": {"mode": mode, "wide": wide, "words": words, "shared": shared},
        "steps": {
            "row_word": per_word if mode == PassMode.BROADCAST else 0,
            "row_tap": row_tap,
            "row_line": kernel_w * row_tap,
        },
    }


def expected(
    memory: list[int], item: dict[str, Any], passes: list[dict[str, dict[str, int]]], fire: dict[str, int], lanes: int
) -> tuple[list[dict[str, int]], list[dict[str, int]], int]:
    """Return (fetched words, tags, number of dropped words) of an item, by the loop nest."""
    fetched, tags, dropped = [], [], 0
    bits = 8 if fire["wide"] else 4
    tile = item["tile"]
    for t in range(fire["timesteps"]):
        offset = tile * lanes * bits // 64 if fire["kind"] == FireKind.SPIKE else tile * lanes // 2
        time = t if fire["kind"] != FireKind.MEMBRANE else 0
        tag = {
            "output": item["output"] + time * fire["time_pitch"] + offset,
            "params": item["params"],
            "upper": int(fire["kind"] == FireKind.SPIKE and tile * lanes * bits // 32 % 2),
            "first": int(t == 0),
            "last": int(t == fire["timesteps"] - 1),
        }
        tags.append(tag)
        found: list[dict[str, int]] = []
        closing = False  # the last word touched is kept even if there is nothing in it
        for slot, each in enumerate(passes):
            source, window, weights, steps = (each[name] for name in ("source", "window", "weights", "steps"))
            walk = item["window"][slot]
            mode = weights["mode"]
            per_word = 8 if weights["wide"] else 16
            tile_offset = {PassMode.BROADCAST: 0, PassMode.RAW: tile * lanes // 2}.get(mode, tile * lanes // per_word)
            closing = False
            for ky in range(window["kernel_h"]):
                for kx in range(window["kernel_w"]):
                    if not (0 <= walk["y"] + ky < window["height"] and 0 <= walk["x"] + kx < window["width"]):
                        continue
                    for w in range(weights["words"]):
                        address = (
                            walk["origin"]
                            + t * source["time_pitch"]
                            + ky * source["row_pitch"]
                            + kx * source["pixel_pitch"]
                            + w
                            + tile_offset
                        ) % (1 << 16)
                        word = memory[address % DEPTH]
                        tap = 0 if weights["shared"] else ky * window["kernel_w"] + kx
                        row = walk["row"] + tap * steps["row_tap"] + w * steps["row_word"]
                        sub = w
                        if mode in (PassMode.ELEMENTWISE, PassMode.MAXIMUM) and lanes == 8 and not weights["wide"]:
                            sub = tile % 2
                        width = 64 // per_word
                        marks = sum(
                            (word >> (width * index) & ((1 << width) - 1) != 0) << index for index in range(per_word)
                        )
                        if mode != PassMode.BROADCAST:
                            marks = int(word != 0 or mode == PassMode.MAXIMUM)
                        closing = slot == len(passes) - 1
                        entry = {"word": word, "marks": marks, "row": row, "slot": slot, "sub": sub % 8, "last": 0}
                        entry["several"] = int(marks.bit_count() > 1)
                        if found and not found[-1]["marks"]:
                            found.pop()
                        found.append(entry)
                        dropped += not marks
        if found and not found[-1]["marks"] and not closing:
            found.pop()
        if not closing:  # the last pass touched nothing: something has to end the sum
            found.append({"marks": 0, "slot": len(passes) - 1, "last": 1})
        found[-1]["last"] = 1
        fetched += found
    return fetched, tags, dropped


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("stall", STALLS)
def test_fetches_what_the_loop_nest_says(seed: int, stall: str) -> None:
    generator = random.Random(f"{seed} {stall}")
    lanes = generator.choice([8, 16])
    unit = Fetch(configuration(lanes))
    memory = [generator.getrandbits(64) if generator.random() < 0.6 else 0 for _ in range(DEPTH)]
    passes = [random_pass(generator, lanes) for _ in range(generator.randint(1, 2))]
    fire = {
        "kind": generator.choice(COMMON_FIRES),
        "wide": generator.randint(0, 1),
        "timesteps": generator.randint(1, 3),
        "time_pitch": generator.randint(0, 40),
    }
    items = [
        {
            "window": [
                {
                    "origin": generator.randint(0, DEPTH - 1),
                    "y": generator.randint(-4, 3),
                    "x": generator.randint(-4, 3),
                    "row": generator.randint(0, 900),
                }
                for _ in range(2)
            ],
            "output": generator.randint(0, 200),
            "params": generator.randint(0, 60),
            "tile": generator.randint(0, 5),
        }
        for _ in range(5)
    ]
    words, tags, dropped = [], [], 0
    for item in items:
        more_words, more_tags, more_dropped = expected(memory, item, passes, fire, lanes)
        words, tags, dropped = words + more_words, tags + more_tags, dropped + more_dropped
    got_words, got_tags, got_dropped = [], [], []

    async def feed(ctx: Any) -> None:
        for slot, each in enumerate(passes):
            describe(ctx, getattr(unit.layer, f"pass{slot}"), **each)
        describe(
            ctx,
            unit.layer,
            fire={"kind": fire["kind"], "wide": fire["wide"]},
            extent={"timesteps": fire["timesteps"], "passes": len(passes)},
            output={"time_pitch": fire["time_pitch"]},
        )
        stalls = STALLS[stall](1)
        for item in items:
            await put(ctx, unit.item, item, next(stalls))

    async def serve(ctx: Any) -> None:
        """Be the spike memory: grant requests as the stalls allow, answer READ_LATENCY cycles later."""
        stalls = STALLS[stall](2)
        pause = next(stalls)
        on_the_way = [(0, False)] * READ_LATENCY
        while True:
            ctx.set(unit.request.ready, pause == 0)
            word, there = on_the_way.pop(0)
            ctx.set(unit.word, word)
            ctx.set(unit.word_valid, there)
            _, _, valid, address, zero = await ctx.tick().sample(
                unit.request.valid, unit.request.payload, unit.zero_word
            )
            transfer = valid and pause == 0
            on_the_way.append((memory[address % DEPTH] if transfer else generator.getrandbits(64), transfer))
            got_dropped.append(zero)
            pause = pause - 1 if pause else (next(stalls) if transfer else 0)

    async def collect(ctx: Any) -> None:
        stalls = STALLS[stall](3)
        for entry in words:
            full = plain(await get(ctx, unit.fetched, next(stalls)))
            got_words.append({name: full[name] for name in entry})

    async def collect_tags(ctx: Any) -> None:
        stalls = STALLS[stall](4)
        for _ in tags:
            got_tags.append(plain(await get(ctx, unit.tag, next(stalls))))

    run(unit, feed, collect, collect_tags, background=(serve,))
    assert got_words == words
    assert got_tags == [{**tag, "output": tag["output"] % DEPTH} for tag in tags]
    assert sum(got_dropped) == dropped


def test_one_word_a_cycle_within_a_tap() -> None:
    """A window of 3 x 3 taps of 2 words: 2 words in 4 cycles, the first one after the documented latency."""
    unit = Fetch(configuration(16))
    requests: list[int] = []
    fetched: list[int] = []

    async def feed(ctx: Any) -> None:
        describe(
            ctx,
            unit.layer.pass0,
            window={"height": 8, "width": 8, "kernel_h": 3, "kernel_w": 3},
            weights={"mode": PassMode.BROADCAST, "words": 2},
        )
        describe(ctx, unit.layer, extent={"timesteps": 1, "passes": 1})
        ctx.set(unit.request.ready, 1)
        ctx.set(unit.fetched.ready, 1)
        ctx.set(unit.tag.ready, 1)
        ctx.set(unit.word, 1)
        ctx.set(unit.item.valid, 1)
        for cycle in range(50):
            ctx.set(unit.word_valid, cycle - READ_LATENCY in requests)
            _, _, taken, request, word = await ctx.tick().sample(
                unit.item.ready, unit.request.valid, unit.fetched.valid
            )
            if taken:
                ctx.set(unit.item.valid, 0)
            requests.extend([cycle] if request else [])
            fetched.extend([cycle] if word else [])

    run(unit, feed)
    assert requests == [7 + 4 * tap + word for tap in range(9) for word in range(2)]
    assert fetched == [cycle + READ_LATENCY + 4 for cycle in requests]


@pytest.mark.parametrize("words", [1, 3])
@pytest.mark.parametrize("passes,timesteps", [(1, 1), (2, 1), (1, 3)])
@pytest.mark.parametrize("y,x", [(0, 0), (-1, 0), (0, -2), (-2, -1), (6, 7)])
def test_what_a_position_costs(y: int, x: int, passes: int, timesteps: int, words: int) -> None:
    """A window of 3 x 3 taps on 8 x 8 pixels: from one position to the next, by the costs that the compiler counts."""
    unit = Walk(configuration(16))
    taken: list[int] = []
    steps: list[int] = []

    async def feed(ctx: Any) -> None:
        for each in (unit.layer.pass0, unit.layer.pass1):
            describe(
                ctx,
                each,
                window={"height": 8, "width": 8, "kernel_h": 3, "kernel_w": 3},
                weights={"mode": PassMode.BROADCAST, "words": words},
            )
        describe(ctx, unit.layer, extent={"timesteps": timesteps, "passes": passes})
        ctx.set(unit.step.ready, 1)
        ctx.set(unit.tag.ready, 1)
        ctx.set(unit.item.payload, {"window": [{"y": y, "x": x}] * 2})
        ctx.set(unit.item.valid, 1)
        for cycle in range(1000):
            _, _, done, step = await ctx.tick().sample(unit.item.ready, unit.step.valid)
            taken.extend([cycle] if done else [])
            steps.extend([cycle] if step else [])
            if len(taken) == 2:
                break

    run(unit, feed)
    above, left = max(0, -y), max(0, -x)
    rows, columns = sum(0 <= y + k < 8 for k in range(3)), sum(0 <= x + k < 8 for k in range(3))
    a_pass = PASS_CYCLES + SKIP_CYCLES * above + rows * (SKIP_CYCLES * left + columns * (TAP_CYCLES + words))
    assert taken[1] - taken[0] == POSITION_CYCLES + timesteps * passes * a_pass
    assert steps[0] == 4 + SKIP_CYCLES * (above + left)
