"""The gather under the stall matrix with words of pairs of positions, against a plain loop over their counts."""

from typing import Any

import cocotb

from gateware.gathering import NARROW, PAIRS, WHOLE, WIDE, corner_words, events_of, paired_words
from polyspike.cosim.cocotb_bench import BOUND, Bench, seeds, stall_runs
from polyspike.gateware.gather import Gather


@cocotb.test(**BOUND)
@cocotb.parametrize(seed=seeds(), stalls=stall_runs("fetched", "event"))
async def events(dut: Any, seed: int, stalls: dict[str, str]) -> None:
    bench = Bench(dut, Gather(PAIRS), stalls, seed)
    await bench.start()

    async def compare(passes: list[dict[str, int]], words: list[dict[str, int]]) -> None:
        bench.describe(weights=passes)
        cocotb.start_soon(bench.driver("fetched").send(words))
        await bench.compare("event", events_of(words, passes))

    passes = [{**NARROW, "positive": 7}, bench.turn([NARROW, WHOLE])]
    await compare(passes, paired_words(bench.random, passes, 20))
    # Words of single positions have nothing beside them.
    passes = [NARROW, bench.turn([WIDE, WHOLE])]
    await compare(passes, [{**word, "other": 0} for word in corner_words(passes)])
