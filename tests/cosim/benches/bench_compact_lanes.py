"""The compact lanes under the stall matrix, against sums in Python integers."""

import itertools
from typing import Any

import cocotb

from gateware.adding import CLIMB, LARGEST, Event, Pass, bank_words, climb, random_bank
from gateware.compacting import CONFIGURATION, LANES, MODES, corner_sums, random_passes, random_sum, total_of
from polyspike.cosim.cocotb_bench import BOUND, Bench, seeds, stall_runs
from polyspike.gateware.compact_lanes import CompactLanes
from polyspike.spec.instructions import PassMode


def compact(event: Event) -> Event:
    """Return a broadcast event as the compact gather would hand it over."""
    code = {"code": event["count"], "mode": PassMode.BROADCAST, "wide": 1, "lane": 0, "raw": 0}
    return {**{name: event[name] for name in ("row", "slot", "add", "last")}, **code}


@cocotb.test(**BOUND)
@cocotb.parametrize(seed=seeds(), stalls=stall_runs("event", "sums"))
async def sums(dut: Any, seed: int, stalls: dict[str, str]) -> None:
    bench = Bench(dut, CompactLanes(CONFIGURATION), stalls, seed)
    await bench.start()
    bank = random_bank(bench.random, LANES)
    await bench.load(bank_words(bank))

    async def compare(passes: list[Pass], finished: list[list[Event]]) -> None:
        bench.describe(weights=passes)
        cocotb.start_soon(bench.driver("event").send(list(itertools.chain(*finished))))
        await bench.compare("sums", [total for events in finished for total in total_of(events, passes, bank)])

    climbing = [{name: each[name] for name in ("wide", "positive", "shift")} for each in CLIMB]
    ends = [[compact(event) for event in climb(target)] for target in (LARGEST, -LARGEST)]
    assert [total_of(events, climbing, bank)[0] for events in ends] == [LARGEST, -LARGEST]
    await compare(climbing, ends)
    modes, passes = bench.turn(MODES), random_passes(bench.random)
    random_sums = [random_sum(bench.random, modes, passes, bank) for _ in range(2)]
    await compare(passes, corner_sums(modes, passes) + random_sums)
