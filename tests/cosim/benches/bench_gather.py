"""The gather under the stall matrix, against a plain loop over the counts of each word."""

from typing import Any

import cocotb

from gateware.gathering import CONFIGURATION, NARROW, WHOLE, WIDE, corner_words, events_of, random_words
from polyspike.cosim.cocotb_bench import BOUND, Bench, seeds, stall_runs
from polyspike.gateware.gather import Gather


@cocotb.test(**BOUND)
@cocotb.parametrize(seed=seeds(), stalls=stall_runs("fetched", "event"))
async def events(dut: Any, seed: int, stalls: dict[str, str]) -> None:
    bench = Bench(dut, Gather(CONFIGURATION), stalls, seed)
    await bench.start()
    passes = [NARROW, bench.turn([WIDE, WHOLE])]
    bench.describe(weights=passes)
    words = corner_words(passes) + random_words(bench.random, passes, 10)
    cocotb.start_soon(bench.driver("fetched").send(words))
    await bench.compare("event", events_of(words, passes))
