"""The gather under the stall matrix, against a plain loop over the counts of each word."""

from typing import Any

import cocotb

from gateware.gathering import CONFIGURATION, NARROW, WHOLE, WIDE, corner_words, events_of, random_words
from polyspike.cosim.cocotb_bench import BOUND, Bench, seeds, stall_runs
from polyspike.gateware.gather import Gather


async def compare_events(bench: Bench, passes: list[dict[str, int]], words: list[dict[str, int]]) -> None:
    """Compare the events of words with those of a plain loop."""
    bench.describe(weights=passes)
    cocotb.start_soon(bench.driver("fetched").send(words))
    await bench.compare("event", events_of(words, passes))


@cocotb.test(**BOUND)
@cocotb.parametrize(seed=seeds(), stalls=stall_runs("fetched", "event"))
async def events(dut: Any, seed: int, stalls: dict[str, str]) -> None:
    bench = Bench(dut, Gather(CONFIGURATION), stalls, seed)
    await bench.start()
    passes = [NARROW, bench.turn([WIDE, WHOLE])]
    await compare_events(bench, passes, corner_words(passes) + random_words(bench.random, passes, 10))
