"""The lanes under the stall matrix, against sums in Python integers."""

import itertools
from typing import Any

import cocotb

from cosim.blocks import LANES
from gateware.adding import (
    CLIMB,
    LARGEST,
    PASSES,
    Bank,
    Event,
    Pass,
    bank_words,
    climb,
    corner_sums,
    meaning,
    random_bank,
    random_sum,
    sums_of,
)
from polyspike.cosim.cocotb_bench import BOUND, Bench, seeds, stall_runs
from polyspike.gateware.lanes import Lanes
from polyspike.spec import Configuration


async def start(dut: Any, configuration: Configuration, seed: int, stalls: dict[str, str]) -> tuple[Bench, Bank]:
    """Return a bench of lanes that has started, and the weights in their bank."""
    bench = Bench(dut, Lanes(configuration), stalls, seed)
    await bench.start()
    bank = random_bank(bench.random, configuration.lanes)
    await bench.load(bank_words(bank))
    return bench, bank


async def compare_sums(
    bench: Bench, passes: list[Pass], finished: list[list[Event]], expected: list[list[int]]
) -> None:
    """Compare the sums of events, those of each sum in a list, with what is expected: maybe of first positions only."""
    bench.describe(weights=passes)
    cocotb.start_soon(bench.driver("event").send(list(itertools.chain(*finished))))
    await bench.compare("sums", expected, lambda item: meaning(item, passes)[: len(expected[0])])


@cocotb.test(**BOUND)
@cocotb.parametrize(seed=seeds(), stalls=stall_runs("event", "sums"))
async def sums(dut: Any, seed: int, stalls: dict[str, str]) -> None:
    bench, bank = await start(dut, LANES, seed, stalls)

    async def compare(passes: list[Pass], finished: list[list[Event]]) -> None:
        await compare_sums(bench, passes, finished, [sums_of(events, passes, bank) for events in finished])

    ends = [climb(LARGEST), climb(-LARGEST)]
    assert [sums_of(events, CLIMB, bank)[0] for events in ends] == [LARGEST, -LARGEST]
    await compare(CLIMB, ends)
    passes = bench.turn(list(PASSES.values()))
    random_sums = [random_sum(bench.random, passes, bank) for _ in range(3)]
    await compare(passes, corner_sums(passes, LANES.lanes) + random_sums)
