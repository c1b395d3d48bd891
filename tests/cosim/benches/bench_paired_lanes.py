"""The lanes under the stall matrix with events of pairs of positions, against sums in Python integers."""

import itertools
from typing import Any

import cocotb

from cosim.blocks import PAIRED_LANES
from gateware.adding import (
    PAIRED_PASSES,
    PASSES,
    Event,
    Pass,
    bank_words,
    meaning,
    paired_corners,
    paired_sum,
    paired_sums_of,
    random_bank,
    random_sum,
    sums_of,
)
from polyspike.cosim.cocotb_bench import BOUND, Bench, seeds, stall_runs
from polyspike.gateware.lanes import Lanes


@cocotb.test(**BOUND)
@cocotb.parametrize(seed=seeds(), stalls=stall_runs("event", "sums"))
async def sums(dut: Any, seed: int, stalls: dict[str, str]) -> None:
    bench = Bench(dut, Lanes(PAIRED_LANES), stalls, seed)
    await bench.start()
    bank = random_bank(bench.random, PAIRED_LANES.lanes)
    await bench.load(bank_words(bank))

    async def compare(paired: int, passes: list[Pass], events: list[list[Event]], expected: list[list[int]]) -> None:
        bench.set("paired", paired)
        bench.describe(weights=passes)
        cocotb.start_soon(bench.driver("event").send(list(itertools.chain(*events))))
        await bench.compare("sums", expected, lambda item: meaning(item, passes))

    passes = bench.turn(list(PAIRED_PASSES.values()))
    corners = bench.random.sample(paired_corners(passes, bank), 12)
    events = corners + [paired_sum(bench.random, passes, bank) for _ in range(4)]
    await compare(1, passes, events, [total for each in events for total in paired_sums_of(each, passes, bank)])
    passes = bench.turn(list(PASSES.values()))
    events = [random_sum(bench.random, passes, bank) for _ in range(3)]
    await compare(0, passes, events, [sums_of(each, passes, bank) for each in events])
