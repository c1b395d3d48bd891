"""The compact fire unit under the stall matrix, against the definition of firing in Python integers."""

import itertools
from typing import Any

import cocotb

from cosim.blocks import COMPACT_FIRE
from gateware.firing import corner_case, meaning, parameter_words, random_case
from polyspike.cosim.cocotb_bench import BOUND, Bench, seeds, stall_runs
from polyspike.gateware.compact_fire import CompactFire
from polyspike.spec.instructions import COMMON_FIRES, FireKind


@cocotb.test(**BOUND)
@cocotb.parametrize(seed=seeds(), stalls=stall_runs("sums", "tag", "words"))
async def words(dut: Any, seed: int, stalls: dict[str, str]) -> None:
    bench = Bench(dut, CompactFire(COMPACT_FIRE), stalls, seed)
    await bench.start()
    kind = bench.turn(list(COMMON_FIRES))
    for case in (
        corner_case(COMPACT_FIRE, bench.random, FireKind.SPIKE),
        random_case(COMPACT_FIRE, bench.random, kind),
    ):
        await bench.load(parameter_words(case))
        bench.describe(fire=case.layer)
        cocotb.start_soon(bench.driver("tag").send(case.tags))
        cocotb.start_soon(bench.driver("sums").send(list(itertools.chain(*case.sums))))
        await bench.compare("words", case.words, meaning)
