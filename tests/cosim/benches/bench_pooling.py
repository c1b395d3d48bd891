"""Gather and lanes one behind the other, as maxima and elementwise sums of windows, against the largest and the sum."""

import itertools
import random
from typing import Any

import cocotb

from cosim.blocks import POOLING, Pooling
from gateware.adding import Bank, Event, Pass, a_pass, bank_words, meaning, random_bank, subs, sums_of
from gateware.gathering import events_of
from polyspike.cosim.cocotb_bench import BOUND, Bench, seeds, stall_runs
from polyspike.spec.instructions import PassMode

#: Maxima and elementwise sums, of narrow and wide counts, and counts of either sign.
PASSES = [
    [a_pass(mode, wide, positive, shift) for shift in shifts]
    for mode, shifts in ((PassMode.MAXIMUM, (0, 0)), (PassMode.ELEMENTWISE, (0, 2)))
    for wide, positive in ((0, 7), (0, 15), (1, 127), (1, 255))
]


def window(generator: random.Random, passes: list[Pass], bank: Bank, taps: int, lone: bool = False) -> list[Event]:
    """Return the words of a window; `lone`: nothing but a count of the last word, in its highest place."""
    words = []
    for tap in range(taps):
        slot = generator.randint(0, 1)
        for sub in subs(passes[slot], POOLING.lanes):
            last = tap == taps - 1 and sub == subs(passes[slot], POOLING.lanes)[-1]
            word = generator.choice([0, (1 << 64) - 1, generator.getrandbits(64), generator.getrandbits(64)])
            if lone:
                word = 0xF << 60 if last else 0
            # The fetch drops words that are all zero, but for maxima and at the end of a sum.
            marks = int(word != 0 or passes[slot]["mode"] == PassMode.MAXIMUM)
            if marks or last:
                row = generator.choice(list(bank))
                common = {"several": 0, "row": row, "slot": slot, "sub": sub}
                words.append({"word": word, "marks": marks, "last": int(last), **common})
    return words


@cocotb.test(**BOUND)
@cocotb.parametrize(seed=seeds(), stalls=stall_runs("fetched", "sums"))
async def windows(dut: Any, seed: int, stalls: dict[str, str]) -> None:
    bench = Bench(dut, Pooling(POOLING), stalls, seed)
    await bench.start()
    bank = random_bank(bench.random, POOLING.lanes)
    await bench.load(bank_words(bank))
    passes = bench.turn(PASSES)
    bench.describe(weights=passes)
    found = [window(bench.random, passes, bank, taps) for taps in (1, 4, 9, 2, 4)]
    found.append(window(bench.random, passes, bank, 4, lone=True))
    # A window beyond the border of its source: nothing but the end of a sum.
    found.append([{"word": 0, "marks": 0, "several": 0, "row": 0, "slot": 0, "sub": 0, "last": 1}])
    cocotb.start_soon(bench.driver("fetched").send(list(itertools.chain(*found))))
    expected = [sums_of(events_of(words, passes), passes, bank) for words in found]
    await bench.compare("sums", expected, lambda item: meaning(item, passes))
