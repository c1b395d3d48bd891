"""The unpacker against plain Python over lists of nibbles."""

import random
from typing import Any

import pytest

from gateware.simulate import run
from polyspike.cosim.streams import STALLS, get, put
from polyspike.gateware.unpacker import LAYOUT, Unpacker
from polyspike.spec import LARGE
from polyspike.spec.registers import InputLayout


def unpacked(layout: InputLayout, payload: list[int], most: int) -> list[int]:
    """Return the words that a payload becomes, straight from the memory map's description."""
    nibbles = [word >> 4 * place & 15 for word in payload for place in range(16)]
    items = [
        nibbles[start : start + layout.nibbles] for start in range(0, len(nibbles) - layout.nibbles + 1, layout.nibbles)
    ]
    words = []
    for start in range(0, len(items), layout.row):
        row = items[start : start + layout.row]
        for first in range(0, len(row) - layout.taps + 1, layout.stride):
            taps = [nibble for item in row[first : first + layout.taps] for nibble in item]
            words.append(sum(nibble << 4 * place for place, nibble in enumerate(taps)))
    return words[:most]


def random_layout(generator: random.Random) -> InputLayout:
    nibbles = generator.choice((1, 1, 2, 3, 4, 6, 8, 16))
    taps = generator.randint(1, min(16 // nibbles, 15))
    row = generator.randint(taps, taps + generator.choice((0, 3, 40)))
    return InputLayout(nibbles=nibbles, row=row, taps=taps, stride=generator.randint(1, 5))


def check(frames: list[tuple[InputLayout, list[int], int, int]], stalls: str = "none") -> list[int]:
    """Send payloads (layout, words, address, words to write); compare what is written, one payload after the other.

    Returns the cycles that each word of a payload took.
    """
    dut = Unpacker(LARGE)
    written: list[tuple[int, int]] = []
    cycles = []

    async def host(ctx: Any) -> None:
        pauses = STALLS[stalls](1)
        expected = []
        for layout, payload, address, most in frames:
            for name, _ in InputLayout.FIELDS:
                ctx.set(getattr(dut.layout, name), getattr(layout, name))
            for index, data in enumerate(payload):
                part = {"data": data, "first": index == 0}
                # Only the first word's address and count mean something.
                part |= {"address": address, "count": most} if index == 0 else {"address": 0x5555, "count": index}
                await put(ctx, dut.parts, part, next(pauses))
            expected += [(address + k, word) for k, word in enumerate(unpacked(layout, payload, most))]
            # All is written as soon as the payload's last word was taken.
            assert written == expected, layout

    async def memory(ctx: Any) -> None:
        pauses = STALLS[stalls](2)
        while True:
            item = await get(ctx, dut.words, next(pauses))
            assert item.mask == 0b11
            written.append((item.address, item.data))

    async def count(ctx: Any) -> None:
        passed = 0
        async for _, _, valid, ready in ctx.tick().sample(dut.parts.valid, dut.parts.ready):
            passed += 1
            if valid and ready:
                cycles.append(passed)
                passed = 0

    run(dut, host, background=(memory, count))
    assert written
    return cycles


def words(generator: random.Random, count: int) -> list[int]:
    return [generator.getrandbits(64) for _ in range(count)]


@pytest.mark.parametrize("stalls", STALLS)
@pytest.mark.parametrize("seed", range(3))
def test_random_layouts(seed: int, stalls: str) -> None:
    generator = random.Random(seed)
    frames = []
    for _ in range(8):
        layout = random_layout(generator)
        for _ in range(generator.randint(1, 3)):
            payload = words(generator, generator.randint(1, 6))
            whole = len(unpacked(layout, payload, 1 << 16))
            most = generator.choice((whole, whole, whole // 2, whole + 3, 0))
            frames.append((layout, payload, generator.randrange(1 << 12), most))
    frames.append((InputLayout(nibbles=1, row=16), [1], 0, 1))
    check(frames, stalls)


def test_by_hand() -> None:
    """Rows of three pixels with two nibbles each, two of them a word: pixels 0 and 1, 1 and 2, 3 and 4 ..."""
    layout = InputLayout(nibbles=2, row=3, taps=2)
    payload = [0x0706050403020100]
    assert unpacked(layout, payload, 9) == [0x0100, 0x0201, 0x0403, 0x0504, 0x0706]
    check([(layout, payload, 7, 9)])


def test_whole_words_pass_unchanged() -> None:
    payload = words(random.Random(1), 3)
    layout = InputLayout(nibbles=16, row=3)
    assert unpacked(layout, payload, 3) == payload
    check([(layout, payload, 0, 3)])


def test_a_payload_starts_with_a_row() -> None:
    """Also where the one before ended in the middle of an item, and nothing of that is left in the words."""
    whole, small = InputLayout(nibbles=15, row=2), InputLayout(nibbles=1, row=5, taps=2)
    full = (1 << 64) - 1
    check([(whole, [full, full], 0, 2), (small, [0x1234567812345678], 4, 9), (whole, [full], 20, 1)])


def test_rate() -> None:
    """A nibble a cycle, one cycle to hand over; 1 to start with, and 1 for each word that is written."""
    silent = InputLayout(nibbles=16, row=2, taps=1)
    assert check([(silent, words(random.Random(2), 4), 0, 1)]) == [20, 18, 18, 18]


def test_layouts_match_the_register() -> None:
    """The structure lies as `InputLayout.encode` says."""
    layout = InputLayout(nibbles=3, row=777, taps=5, stride=9)
    view = LAYOUT.from_bits(layout.encode())
    for name, _ in InputLayout.FIELDS:
        assert view[name] == getattr(layout, name), name
