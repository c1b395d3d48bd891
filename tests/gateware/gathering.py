"""What the tests of the gather share: passes, fetched words, and the events that a plain loop makes of them."""

import random

from polyspike.spec import Configuration
from polyspike.spec.instructions import PassMode

CONFIGURATION = Configuration(
    name="test", columns=1, lanes=8, weight_depth=8192, spike_depth=64, param_depth=64, program_depth=64
)
PAIRS = CONFIGURATION.replace(pairs=1)

#: Two passes: narrow broadcast with counts -3..12, and wide broadcast with counts -128..127.
NARROW = {"mode": PassMode.BROADCAST, "wide": 0, "positive": 12}
WIDE = {"mode": PassMode.BROADCAST, "wide": 1, "positive": 127}
WHOLE = {"mode": PassMode.ELEMENTWISE, "wide": 0, "positive": 15}


def random_word(generator: random.Random, weights: dict[str, int], density: float) -> dict[str, int]:
    """Return a random word as the fetch would hand it over."""
    bits = 8 if weights["wide"] else 4
    codes = [generator.randint(1, (1 << bits) - 1) if generator.random() < density else 0 for _ in range(64 // bits)]
    return word_of(codes, weights, row=generator.randint(0, 5000), sub=generator.randint(0, 7))


def events_of(items: list[dict[str, int]], passes: list[dict[str, int]]) -> list[dict[str, int]]:
    """Return the events of words, without the fields that do not matter for their kind."""
    events = []
    for item in items:
        weights = passes[item["slot"]]
        bits = 8 if weights["wide"] else 4
        common = {"slot": item["slot"], "add": 1, "last": 0}
        if weights["mode"] != PassMode.BROADCAST:
            whole = {name: item[name] for name in ("row", "word", "sub", "second") if name in item}
            found = [{**common, **whole}] if item["marks"] else []
        else:
            found = []
            words = {name: item[key] for name, key in (("count", "word"), ("other", "other")) if key in item}
            for index in range(64 // bits):
                codes = {name: word >> (bits * index) & ((1 << bits) - 1) for name, word in words.items()}
                if any(codes.values()):
                    counts = {name: code - (code > weights["positive"]) * (1 << bits) for name, code in codes.items()}
                    found.append({**common, "row": item["row"] + index, **counts})
        if not found:
            found = [{"slot": item["slot"], "add": 0}]
        found[-1]["last"] = item["last"]
        events += found
    return events


def word_of(codes: list[int], weights: dict[str, int], **fields: int) -> dict[str, int]:
    """Return a word with these codes in its lowest places, as the fetch would hand it over."""
    bits = 8 if weights["wide"] else 4
    marks = sum((code != 0) << index for index, code in enumerate(codes))
    if weights["mode"] != PassMode.BROADCAST:
        marks = int(marks != 0)
    word = sum(code << (bits * index) for index, code in enumerate(codes))
    return {"word": word, "marks": marks, "several": int(marks.bit_count() > 1), "sub": 0, **fields}


def corner_words(passes: list[dict[str, int]]) -> list[dict[str, int]]:
    """Return words that ask most of the gather: full, empty and lone ones, and counts beside the change of sign."""
    words = []
    for slot, weights in enumerate(passes):
        places, most = (8, 255) if weights["wide"] else (16, 15)
        positive = weights["positive"]
        lone = [0] * (places - 1)
        last_row = (1 << 13) - places
        words += [
            word_of([most] * places, weights, slot=slot, row=last_row, last=0),
            word_of([positive, min(positive + 1, most)] * (places // 2), weights, slot=slot, row=0, last=1),
            # A lone event ends a tile, at either end of its word; and nothing at all does.
            word_of([*lone, most], weights, slot=slot, row=1, last=1),
            word_of([1, *lone], weights, slot=slot, row=2, last=1),
            word_of([0] * places, weights, slot=slot, row=3, last=1),
            word_of([0] * places, weights, slot=slot, row=4, last=1),
        ]
    return words


def random_words(generator: random.Random, passes: list[dict[str, int]], count: int) -> list[dict[str, int]]:
    """Return random words of both passes; a word without counts is a last one, as the fetch sends no others."""
    words = []
    for index in range(count):
        slot = generator.randint(0, 1)
        word = random_word(generator, passes[slot], generator.choice([0.1, 0.5, 1.0]))
        word["last"] = int(not word["marks"] or index % 7 == 0)
        if word["last"] and index % 14 == 0:
            word["word"] = word["marks"] = word["several"] = 0
        words.append({**word, "slot": slot})
    return words


def paired_words(generator: random.Random, passes: list[dict[str, int]], count: int) -> list[dict[str, int]]:
    """Return random words of pairs of positions, all of narrow passes."""
    words = random_words(generator, passes, count)
    for word in words:
        weights = passes[word["slot"]]
        if weights["mode"] != PassMode.BROADCAST:
            word["second"] = generator.randint(0, 1)
            continue
        other = random_word(generator, weights, generator.choice([0, 0.1, 0.5, 1.0]))
        if not word["marks"]:
            other["word"] = other["marks"] = 0  # the end of a sum without anything
        elif other["marks"] and generator.random() < 0.2:
            word["word"] = word["marks"] = 0
        marks = word["marks"] | other["marks"]
        word |= {"other": other["word"], "marks": marks, "several": int(marks.bit_count() > 1)}
    return words
