"""The lanes under the stall matrix with events of pairs of positions, against sums in Python integers."""

from typing import Any

import cocotb

from cosim.benches.bench_lanes import compare_sums, start
from cosim.blocks import PAIRS
from gateware.adding import (
    PAIRED_PASSES,
    PASSES,
    corner_sums,
    paired_corners,
    paired_sum,
    paired_sums_of,
    random_sum,
    sums_of,
)
from polyspike.cosim.cocotb_bench import BOUND, seeds, stall_runs


@cocotb.test(**BOUND)
@cocotb.parametrize(seed=seeds(), stalls=stall_runs("event", "sums"))
async def sums(dut: Any, seed: int, stalls: dict[str, str]) -> None:
    bench, bank = await start(dut, PAIRS, seed, stalls)
    bench.set("paired", 1)
    passes = bench.turn(list(PAIRED_PASSES.values()))
    corners = bench.random.sample(paired_corners(passes, bank), 12)
    finished = corners + [paired_sum(bench.random, passes, bank) for _ in range(4)]
    expected = [paired_sums_of(events, passes, bank) for events in finished]
    await compare_sums(bench, passes, finished, expected)
    # Single positions, on the same lanes.
    bench.set("paired", 0)
    passes = bench.turn(list(PASSES.values()))
    finished = corner_sums(passes, PAIRS.lanes) + [random_sum(bench.random, passes, bank) for _ in range(3)]
    await compare_sums(bench, passes, finished, [sums_of(events, passes, bank) for events in finished])
