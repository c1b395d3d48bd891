"""The fetch against the loop nest of the instruction set's description."""

import itertools
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


#: Does the configuration have pairs, and the layer?
PAIRS = {"without pairs": (0, 0), "unpaired": (1, 0), "paired": (1, 1)}


def configuration(lanes: int, pairs: int = 0) -> Configuration:
    return Configuration(
        name="test",
        columns=1,
        lanes=lanes,
        weight_depth=2048,
        spike_depth=DEPTH,
        param_depth=64,
        program_depth=64,
        pairs=pairs,
    )


def neighbours(each: dict[str, dict[str, int]]) -> bool:
    """Whether the positions of a pair are a word apart in a pass."""
    weights = each["weights"]
    return each["window"]["stride_x"] == 2 and weights["words"] == 1 and weights["mode"] == PassMode.BROADCAST


def random_pass(generator: random.Random, lanes: int, paired: int) -> dict[str, dict[str, int]]:
    """Return random descriptors of a pass, with what SETUP derives from them.

    Where no word is fetched twice, the pitch of pixels has to be half of a pair's; elsewhere both are independent here.
    """
    mode = generator.choice([PassMode.BROADCAST, PassMode.ELEMENTWISE] if paired else list(PassMode))
    wide = 0 if paired else generator.randint(0, 1)
    words = {
        PassMode.BROADCAST: generator.randint(1, 3),
        PassMode.RAW: lanes // 2,
    }.get(mode, max(1, lanes * (8 if wide else 4) // 64))
    kernel_h, kernel_w = generator.randint(1, 3), generator.randint(1, 3)
    per_word = 8 if wide else 16
    shared = generator.randint(0, 1)
    row_tap = 0 if shared else words * per_word if mode == PassMode.BROADCAST else 1
    stride_x = generator.choice([2, 2, 4, 6]) if paired else generator.randint(0, 6)
    each = {
        "source": {"row_pitch": generator.randint(0, 90), "pixel_pitch": 9, "time_pitch": generator.randint(0, 70)},
        "window": {
            "height": generator.randint(1, 4),
            "width": generator.randint(max(1, stride_x // 2), 4),
            "kernel_h": kernel_h,
            "kernel_w": kernel_w,
            "stride_x": stride_x,
        },
        "weights": {"mode": mode, "wide": wide, "words": words, "shared": shared},
        "steps": {
            "row_word": per_word if mode == PassMode.BROADCAST else 0,
            "row_tap": row_tap,
            "row_line": kernel_w * row_tap,
            "x": 2 * generator.randint(0, DEPTH // 2 - 1),
        },
    }
    if neighbours(each):
        each["steps"]["x"] = 2 * each["source"]["pixel_pitch"]
    return each


def random_word(generator: random.Random) -> int:
    """Return a word: nothing, a few counts, or many."""
    share = generator.choice([0, 0, 0.1, 0.9])
    return sum((generator.randint(1, 15) if generator.random() < share else 0) << (4 * at) for at in range(16))


def expected(
    memory: list[int], item: dict[str, Any], passes: list[dict[str, dict[str, int]]], fire: dict[str, int], lanes: int
) -> tuple[list[dict[str, int]], list[dict[str, int]], int]:
    """Return (fetched words, tags, number of fetched words that are zero) of an item, by the loop nest."""
    fetched, tags, zeros = [], [], 0
    positions = (0, 1) if fire["pairs"] else (0,)
    bits = 8 if fire["wide"] else 4
    tile = item["tile"]
    for t in range(fire["timesteps"]):
        offset = tile * lanes * bits // 64 if fire["kind"] == FireKind.SPIKE else tile * lanes // 2
        time = t if fire["kind"] != FireKind.MEMBRANE else 0
        tags += [
            {
                "output": item["output"] + time * fire["time_pitch"] + offset + second * (fire["pixel_pitch"] // 2),
                "params": item["params"],
                "upper": int(fire["kind"] == FireKind.SPIKE and tile * lanes * bits // 32 % 2),
                "first": int(t == 0),
                "last": int(t == fire["timesteps"] - 1),
                "second": second,
            }
            for second in positions
        ]
        found: list[dict[str, int]] = []
        closing = False  # the last word touched is kept even if there is nothing in it
        for slot, each in enumerate(passes):
            source, window, weights, steps = (each[name] for name in ("source", "window", "weights", "steps"))
            walk = item["window"][slot]
            mode = weights["mode"]
            per_word, width = (8, 8) if weights["wide"] else (16, 4)
            tile_offset = {PassMode.BROADCAST: 0, PassMode.RAW: tile * lanes // 2}.get(mode, tile * lanes // per_word)
            closing = False
            known = None  # the place of a second neighbour, whose word is not fetched again for both of the next tap
            for ky, kx in itertools.product(range(window["kernel_h"]), range(window["kernel_w"])):
                places = [walk["x"] + kx + second * (window["stride_x"] // 2) for second in positions]
                inside = [second for second in positions if 0 <= places[second] < window["width"]]
                if not inside or not 0 <= walk["y"] + ky < window["height"]:
                    continue
                tap = 0 if weights["shared"] else ky * window["kernel_w"] + kx
                for w in range(weights["words"]):
                    both = [0, 0]
                    for second in inside:
                        address = (
                            walk["origin"]
                            + t * source["time_pitch"]
                            + ky * source["row_pitch"]
                            + kx * source["pixel_pitch"]
                            + second * (steps["x"] // 2)
                            + w
                            + tile_offset
                        )
                        both[second] = memory[address % DEPTH]
                        again = len(inside) == 2 and known == (ky, places[second])
                        zeros += not both[second] and mode != PassMode.MAXIMUM and not again
                    if neighbours(each):
                        known = (ky, places[inside[-1]])
                    row = walk["row"] + tap * steps["row_tap"] + w * steps["row_word"]
                    sub = w
                    if mode in (PassMode.ELEMENTWISE, PassMode.MAXIMUM) and lanes == 8 and not weights["wide"]:
                        sub = tile % 2
                    common = {"row": row, "slot": slot, "sub": sub % 8, "last": 0}
                    if mode == PassMode.BROADCAST:
                        either = both[0] | both[1]
                        marks = sum(
                            (either >> (width * index) & ((1 << width) - 1) != 0) << index for index in range(per_word)
                        )
                        entries = [{**common, "word": both[0], "other": both[1], "marks": marks}]
                    else:
                        entries = [
                            {
                                **common,
                                "word": word,
                                "second": second,
                                "marks": int(word != 0 or mode == PassMode.MAXIMUM),
                            }
                            for second, word in enumerate(both)
                            if second in inside
                        ]
                    closing = slot == len(passes) - 1
                    for entry in entries:
                        if found and not found[-1]["marks"]:
                            found.pop()
                        found.append({**entry, "several": int(entry["marks"].bit_count() > 1)})
        if found and not found[-1]["marks"] and not closing:
            found.pop()
        if not closing:  # the last pass touched nothing: something has to end the sum
            found.append({"marks": 0, "slot": len(passes) - 1, "last": 1})
        found[-1]["last"] = 1
        fetched += found
    return fetched, tags, zeros


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("having", PAIRS)
def test_fetches_what_the_loop_nest_says(having: str, seed: int, stall: str) -> None:
    generator = random.Random(f"{having} {seed} {stall}")
    lanes = generator.choice([8, 16])
    pairs, paired = PAIRS[having]
    unit = Fetch(configuration(lanes, pairs))
    memory = [random_word(generator) for _ in range(DEPTH)]
    passes = [random_pass(generator, lanes, paired) for _ in range(generator.randint(1, 2))]
    fire = {
        "kind": generator.choice(COMMON_FIRES),
        "wide": generator.randint(0, 1),
        "timesteps": generator.randint(1, 3),
        "time_pitch": generator.randint(0, 40),
        "pixel_pitch": 2 * generator.randint(0, 40),
        "pairs": paired,
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
    words: list[dict[str, int]] = []
    tags: list[dict[str, int]] = []
    zeros = 0
    for item in items:
        more_words, more_tags, more_zeros = expected(memory, item, passes, fire, lanes)
        words, tags, zeros = words + more_words, tags + more_tags, zeros + more_zeros
    absent = () if pairs else ("other", "second")
    words, tags = ([{name: each[name] for name in each if name not in absent} for each in all] for all in (words, tags))
    got_words, got_tags, got_zeros = [], [], []

    async def feed(ctx: Any) -> None:
        for slot, each in enumerate(passes):
            describe(ctx, getattr(unit.layer, f"pass{slot}"), **each)
        describe(
            ctx,
            unit.layer,
            fire={"kind": fire["kind"], "wide": fire["wide"]},
            extent={"timesteps": fire["timesteps"], "passes": len(passes)} | ({"pairs": paired} if pairs else {}),
            output={"time_pitch": fire["time_pitch"], "pixel_pitch": fire["pixel_pitch"]},
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
            got_zeros.append(zero)
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
    assert sum(got_zeros) == zeros


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
@pytest.mark.parametrize("having", PAIRS)
def test_what_a_position_costs(having: str, y: int, x: int, passes: int, timesteps: int, words: int) -> None:
    """A window of 3 x 3 taps on 8 x 8 pixels: from one position to the next, by the costs that the compiler counts."""
    pairs, paired = PAIRS[having]
    unit = Walk(configuration(16, pairs))
    taken: list[int] = []
    steps: list[int] = []

    async def feed(ctx: Any) -> None:
        for each in (unit.layer.pass0, unit.layer.pass1):
            describe(
                ctx,
                each,
                window={"height": 8, "width": 8, "kernel_h": 3, "kernel_w": 3, "stride_x": 2},
                weights={"mode": PassMode.BROADCAST, "words": words},
            )
        extent = {"timesteps": timesteps, "passes": passes} | ({"pairs": paired} if pairs else {})
        describe(ctx, unit.layer, extent=extent)
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
    above, rows = max(0, -y), sum(0 <= y + k < 8 for k in range(3))
    left = columns = fetched = 0
    for k in range(3):
        places = [x + k, x + k + 1] if paired else [x + k]
        inside = sum(0 <= place < 8 for place in places)
        left += places[-1] < 0
        columns += inside > 0
        # Of two neighbours of a word each, the first one's word was the second one's before.
        fetched += 1 if inside and words == 1 and k else inside * words
    a_pass = PASS_CYCLES + SKIP_CYCLES * above + rows * (SKIP_CYCLES * left + TAP_CYCLES * columns + fetched)
    # The second tag of a pair is a cycle late where no row or tap is skipped before the first word.
    late = int(paired and not above + left)
    assert taken[1] - taken[0] == POSITION_CYCLES + timesteps * (passes * a_pass + late)
    assert steps[0] == 4 + SKIP_CYCLES * (above + left) + late
