"""What the tests of the lanes share: passes, events, and the sums that Python makes of them."""

import itertools
import random
from collections.abc import Iterator

from polyspike.spec import Configuration
from polyspike.spec.instructions import PassMode

ROWS = 64

#: The largest magnitude of a membrane that the range proof lets pass, of 24 bits.
LARGEST = (1 << 23) - 1

Event = dict[str, int]
Pass = dict[str, int]
#: Weights of each lane, by row.
Bank = dict[int, list[int]]


def configuration(lanes: int, pairs: int = 0) -> Configuration:
    return Configuration(
        name="test",
        columns=1,
        lanes=lanes,
        weight_depth=ROWS,
        spike_depth=64,
        param_depth=64,
        program_depth=64,
        pairs=pairs,
    )


def a_pass(mode: PassMode, wide: int, positive: int, shift: int = 0) -> Pass:
    return {"mode": mode, "wide": wide, "positive": positive, "shift": shift}


PASSES = {
    "conv+identity": [a_pass(PassMode.BROADCAST, 0, 15), a_pass(PassMode.ELEMENTWISE, 0, 7, 7)],
    "conv+identity wide": [a_pass(PassMode.BROADCAST, 1, 127, 2), a_pass(PassMode.ELEMENTWISE, 1, 127, 3)],
    "raw+conv": [a_pass(PassMode.RAW, 0, 0), a_pass(PassMode.BROADCAST, 0, 12)],
    "maximum": [a_pass(PassMode.MAXIMUM, 0, 7), a_pass(PassMode.MAXIMUM, 0, 7)],
    "maximum wide": [a_pass(PassMode.MAXIMUM, 1, 255), a_pass(PassMode.MAXIMUM, 1, 255)],
}

#: Passes whose events can be of pairs of positions.
PAIRED_PASSES = {
    "conv+conv": [a_pass(PassMode.BROADCAST, 0, 15), a_pass(PassMode.BROADCAST, 0, 0, 1)],
    "conv+identity": [a_pass(PassMode.BROADCAST, 0, 7, 1), a_pass(PassMode.ELEMENTWISE, 0, 15, 7)],
    "identity+identity": [a_pass(PassMode.ELEMENTWISE, 0, 0, 2), a_pass(PassMode.ELEMENTWISE, 0, 7)],
}

#: Two broadcast passes whose products reach from 1 to a third of the largest membrane.
CLIMB = [a_pass(PassMode.BROADCAST, 1, 255, 7), a_pass(PassMode.BROADCAST, 1, 255, 0)]


def random_bank(generator: random.Random, lanes: int) -> Bank:
    """Return some rows of weights; the first four are extreme in all lanes: 127, -127, 1 and -1."""
    bank = {row: [weight] * lanes for row, weight in enumerate((127, -127, 1, -1))}
    for row in (9, 20, 42, 47, 62, ROWS - 1):
        bank[row] = [generator.choice([-127, 127, generator.randint(-127, 127)]) for _ in range(lanes)]
    return bank


def bank_words(bank: Bank) -> Iterator[tuple[int, int]]:
    """Yield the host's writes of a weight bank: address and word."""
    for row, weights in bank.items():
        for part in range(len(weights) // 8):
            word = sum((weight & 0xFF) << (8 * byte) for byte, weight in enumerate(weights[8 * part :][:8]))
            yield row * (len(weights) // 8) + part, word


def subs(weights: Pass, lanes: int) -> range:
    """Return the parts of a tile that a pass has words for, or of a word that it has tiles for."""
    if weights["mode"] == PassMode.BROADCAST:
        return range(1)
    if weights["mode"] == PassMode.RAW:
        return range(lanes // 2)
    return range(2 if weights["wide"] == (lanes == 16) else 1)


def random_sum(generator: random.Random, passes: list[Pass], bank: Bank) -> list[Event]:
    """Return the events of a sum."""
    events = []
    lanes = len(bank[0])
    for left in reversed(range(generator.choice([1, 2, 9]))):
        slot = generator.randint(0, 1)
        weights = passes[slot]
        event = {
            "row": generator.choice(list(bank)),
            "count": 0,
            "word": generator.getrandbits(64),
            "slot": slot,
            "sub": generator.choice(subs(weights, lanes)),
            "add": int(weights["mode"] == PassMode.MAXIMUM or generator.random() < 0.9),
            "last": int(left == 0),
        }
        if weights["mode"] == PassMode.BROADCAST:
            event["count"] = generator.choice([-128, 255, generator.randint(-128, 255)])
        elif weights["mode"] == PassMode.RAW:
            # Raw sums are membranes: 24 bits, sign-extended.
            event["word"] = raw_word(*(generator.randint(-(1 << 20), 1 << 20) for _ in range(2)))
        events.append(event)
    return events


def paired_sum(generator: random.Random, passes: list[Pass], bank: Bank) -> list[Event]:
    """Return the events of the two sums of a pair of positions."""
    events = random_sum(generator, passes, bank)
    for event in events:
        if passes[event["slot"]]["mode"] == PassMode.BROADCAST:
            event |= {name: generator.choice([-15, 0, 15, generator.randint(-15, 15)]) for name in ("count", "other")}
        else:
            event["second"] = generator.randint(0, 1)
    return events


def paired_corners(passes: list[Pass], bank: Bank) -> list[list[Event]]:
    """Return events of pairs: every combination of extreme counts and weights, alone and added up; and long sums."""
    sums = []
    ends = [0, -1 % (1 << 64), 0x7777_7777_7777_7777, 0x8888_8888_8888_8888]
    for slot, weights in enumerate(passes):
        event = {"slot": slot, "count": 0, "word": 0, "sub": 0, "add": 1, "last": 0}
        each: list[Event] = []
        for row in range(4):
            if weights["mode"] == PassMode.BROADCAST:
                counts = itertools.product((-15, -1, 0, 1, 15), repeat=2)
                each += [{**event, "row": row, "count": count, "other": other} for count, other in counts]
            else:
                words = itertools.product(ends, (0, 1))
                each += [{**event, "row": row, "word": word, "second": second} for word, second in words]
        sums += [[{**one, "last": 1}] for one in each]
        sums.append([*each, {**each[0], "add": 0, "last": 1}])
        # One position climbs, the other one falls, further than 16 bits.
        if weights["mode"] == PassMode.BROADCAST:
            sums += [[{**event, "row": row, "count": 15, "other": -15}] * 50 for row in (0, 1)]
        else:
            far = [{**event, "row": second, "word": ends[1], "second": second} for second in (0, 1)]
            sums.append(far * (LARGEST // (15 * 127 << weights["shift"]) if weights["positive"] == 15 else 50))
        for long in sums[-2:]:
            long[-1] = {**long[-1], "last": 1}
    return sums


def raw_word(low: int, high: int) -> int:
    """Return the word of two raw sums."""
    return low & 0xFFFFFFFF | (high & 0xFFFFFFFF) << 32


def corner_sums(passes: list[Pass], lanes: int) -> list[list[Event]]:
    """Return sums of a lone event, of nothing at all, and of extreme counts and weights."""
    sums: list[list[Event]] = []
    for slot, weights in enumerate(passes):
        nothing = {"slot": slot, "row": 0, "count": 0, "word": 0, "sub": 0, "add": 0, "last": 1}
        sums.append([nothing])
        if weights["mode"] == PassMode.RAW:
            words = [raw_word(LARGEST, -LARGEST), raw_word(-LARGEST, LARGEST), raw_word(0, 0)]
        else:
            words = [0, (1 << 64) - 1, 0x7777_7777_7777_7777, 0x8888_8888_8888_8888]
        for (row, count), word in zip(((0, 255), (1, 255), (1, -128), (0, -128)), words, strict=False):
            event = {**nothing, "row": row, "count": count, "word": word, "add": 1}
            tile = [{**event, "sub": sub, "last": 0} for sub in subs(weights, lanes)]
            tile[-1]["last"] = 1
            sums += [tile, tile[-1:]]
    return sums


def climb(target: int) -> list[Event]:
    """Return the events under `CLIMB` whose sum is `target` in every lane, all of one sign on the way there."""
    events: list[Event] = []
    left = abs(target)
    common = {"word": 0, "sub": 0, "add": 1, "last": 0}
    for slot, weight, row in ((0, 127, 0), (1, 127, 0), (1, 1, 2)):
        one = weight << CLIMB[slot]["shift"]
        while count := min(255, left // one):
            events.append({"slot": slot, "row": row + (target < 0), "count": count, **common})
            left -= count * one
    events[-1]["last"] = 1
    return events


def counts_of(word: int, weights: Pass, lanes: int, sub: int) -> dict[int, int]:
    """Return the counts of an elementwise word, by lane."""
    bits = 8 if weights["wide"] else 4
    codes = [word >> (bits * index) & ((1 << bits) - 1) for index in range(64 // bits)]
    counts = [code - (1 << bits) if code > weights["positive"] else code for code in codes]
    if len(counts) >= lanes:
        part = sub * lanes % len(counts) if not weights["wide"] else 0
        return {lane: counts[part + lane] for lane in range(lanes)}
    return {sub * len(counts) + index: count for index, count in enumerate(counts)}


def sums_of(events: list[Event], passes: list[Pass], bank: Bank) -> list[int]:
    """Return the sum of each lane."""
    lanes = len(bank[0])
    sums = [0] * lanes
    largest: dict[int, int] = {}
    for event in events:
        if not event["add"]:
            continue
        weights, row = passes[event["slot"]], bank[event["row"]]
        if weights["mode"] == PassMode.BROADCAST:
            for lane in range(lanes):
                sums[lane] += (row[lane] * event["count"]) << weights["shift"]
        elif weights["mode"] == PassMode.RAW:
            for half in range(2):
                value = event["word"] >> (32 * half) & 0xFFFFFFFF
                sums[2 * event["sub"] + half] += value - (1 << 32 if value >> 31 else 0)
        else:
            for lane, count in counts_of(event["word"], weights, lanes, event["sub"]).items():
                if weights["mode"] == PassMode.MAXIMUM:
                    largest[lane] = max(count, largest.get(lane, count))
                else:
                    sums[lane] += (row[lane] * count) << weights["shift"]
    # A lane that no word is for has the maximum of nothing.
    return [largest.get(lane, total) for lane, total in enumerate(sums)]


def paired_sums_of(events: list[Event], passes: list[Pass], bank: Bank) -> list[int]:
    """Return the sums of each lane, those of the first position of a pair and behind them those of the second one."""
    parts: list[list[Event]] = [[], []]
    for event in events:
        if passes[event["slot"]]["mode"] == PassMode.BROADCAST:
            for part, name in zip(parts, ("count", "other"), strict=True):
                part.append({**event, "count": event.get(name, 0)})
        else:
            parts[event.get("second", 0)].append(event)
    return [total for part in parts for total in sums_of(part, passes, bank)]


def meaning(sums: list[int], passes: list[Pass]) -> list[int]:
    """Return what finished sums mean: of maxima, only the bits of a count do."""
    if passes[0]["mode"] == PassMode.MAXIMUM:
        return [(each + 256) % 512 - 256 for each in sums]
    return sums
