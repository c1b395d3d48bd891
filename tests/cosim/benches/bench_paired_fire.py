"""The fire unit under the stall matrix with sums of pairs of positions, against the definition of firing."""

from typing import Any

import cocotb

from cosim.benches.bench_fire import compare_words
from cosim.blocks import PAIRS
from polyspike.cosim.cocotb_bench import BOUND, seeds, stall_runs


@cocotb.test(**BOUND)
@cocotb.parametrize(seed=seeds(), stalls=stall_runs("sums", "tag", "words"))
async def words(dut: Any, seed: int, stalls: dict[str, str]) -> None:
    await compare_words(dut, PAIRS, seed, stalls)
