"""What the tests of a compact column share: steps, events and sums, and what plain loops make of them."""

import random

from gateware.adding import LARGEST, ROWS, Bank, Event, Pass
from polyspike.spec import Configuration
from polyspike.spec.instructions import PassMode

LANES, DEPTH = 8, 64

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


def random_memory(generator: random.Random) -> list[int]:
    """Return words of spike counts, some of them empty, some full, and some with one count at an end."""
    memory = [0, (1 << 64) - 1, 1, 15 << 60]
    while len(memory) < DEPTH:
        density = generator.choice([0, 0.1, 0.5, 1])
        memory.append(sum(generator.randint(1, 15) << 4 * n for n in range(16) if generator.random() < density))
    return memory


def dropped(step: Step, word: int) -> bool:
    """Return whether a word is reported as one that gave no event, though a last one gives an empty event."""
    return step["mode"] != PassMode.RAW and not step["blank"] and not codes_of(step, word)


def random_passes(generator: random.Random) -> list[Pass]:
    """Return the two passes of a layer, whose modes are in the events."""
    wide = generator.randint(0, 1)
    positive = generator.choice([100, 255] if wide else [7, 12, 15])
    return [{"wide": wide, "positive": positive, "shift": shift} for shift in (0, 3)]


#: Modes of the two passes of a layer.
MODES = [
    (PassMode.BROADCAST, PassMode.ELEMENTWISE),
    (PassMode.RAW, PassMode.BROADCAST),
    (PassMode.ELEMENTWISE, PassMode.RAW),
    (PassMode.MAXIMUM, PassMode.MAXIMUM),
]


def corner_sums(modes: tuple[PassMode, PassMode], passes: list[Pass]) -> list[list[Event]]:
    """Return sums of a lone event, of nothing at all, and of extreme counts, weights and raw sums."""
    sums: list[list[Event]] = []
    for slot, (mode, weights) in enumerate(zip(modes, passes, strict=True)):
        most, positive = (255 if weights["wide"] else 15), weights["positive"]
        common = {"slot": slot, "mode": mode, "wide": weights["wide"], "last": 0}
        nothing = {**common, "lane": 0, "row": 0, "code": 0, "raw": 0, "add": 0, "last": 1}
        sums.append([nothing])
        for row, code, sign in ((0, positive, 1), (1, most, -1), (1, min(positive + 1, most), 1)):
            tile = [
                {**common, "lane": lane, "row": row, "code": code, "raw": sign * LARGEST, "add": 1}
                for lane in range(LANES)
            ]
            if mode != PassMode.RAW:
                tile = [{**event, "raw": 0} for event in tile]
            tile[-1]["last"] = 1
            sums.append(tile)
            if mode not in (PassMode.RAW, PassMode.MAXIMUM):
                sums.append(tile[-1:])
    return sums


def random_sum(
    generator: random.Random, modes: tuple[PassMode, PassMode], passes: list[Pass], bank: Bank
) -> list[Event]:
    """Return the events of a sum: whole tiles of maxima and raw sums, whatever else in between."""
    events: list[Event] = []
    for _ in range(generator.randint(1, 4)):
        slot = generator.randint(0, 1)
        mode = modes[slot]
        wide = passes[slot]["wide"]
        for lane in range(LANES):
            event = {"slot": slot, "mode": mode, "wide": wide, "add": 1, "last": 0, "lane": lane, "raw": 0}
            event |= {"code": generator.randrange(256 if wide else 16), "row": generator.choice(list(bank))}
            if mode == PassMode.RAW:
                event["raw"] = generator.randint(-(1 << 20), 1 << 20)
            events.append(event)
    if generator.random() < 0.2:
        events.append({"add": 0, "last": 0})
    events[-1]["last"] = 1
    return events


def total_of(events: list[Event], passes: list[Pass], bank: Bank) -> list[int]:
    """Return the sum of each lane."""
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
