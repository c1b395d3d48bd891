"""The fire unit under the stall matrix, against the definition of firing in Python integers."""

import dataclasses
from typing import Any

import cocotb

from cosim.blocks import FIRE
from gateware.firing import Case, case_of, corner_case, extremes, meaning, parameter_words, random_case
from polyspike.cosim.cocotb_bench import BOUND, Bench, seeds, stall_runs
from polyspike.gateware.fire import Fire
from polyspike.spec.instructions import COMMON_FIRES, FireKind


def maxima(bench: Bench) -> Case:
    """Return a case whose sums are maxima of counts: of each, all bits above a count's are garbage."""
    layer = {**extremes(bench.random, FireKind.SPIKE, wide=True), "params": 0}
    theta = [bench.random.choice([1, 1, 2, 100]) for _ in range(FIRE.lanes)]
    zeros = [0] * FIRE.lanes
    return case_of(
        FIRE,
        bench.random,
        layer,
        theta,
        zeros,
        zeros,
        zeros,
        lambda lane, before: bench.random.choice([-128, 255, 0, 1]),
    )


def spoil(bench: Bench, total: int) -> int:
    """Return a sum whose lowest bits are those of a count."""
    return total & 0x1FF | bench.random.randint(-(1 << 14), (1 << 14) - 1) << 9


@cocotb.test(**BOUND)
@cocotb.parametrize(seed=seeds(), stalls=stall_runs("sums", "tag", "words"))
async def words(dut: Any, seed: int, stalls: dict[str, str]) -> None:
    bench = Bench(dut, Fire(FIRE), stalls, seed)
    await bench.start()
    done = bench.pulses("done")
    spoiled = maxima(bench)
    kind = bench.turn(list(COMMON_FIRES))
    cases = [corner_case(FIRE, bench.random, FireKind.SPIKE), random_case(FIRE, bench.random, kind)]
    cases.append(dataclasses.replace(spoiled, sums=[[spoil(bench, each) for each in row] for row in spoiled.sums]))
    for case in cases:
        await bench.load(parameter_words(case))
        bench.describe(fire=case.layer)
        bench.set("counts", int(case is cases[-1]))
        done.clear()
        cocotb.start_soon(bench.driver("tag").send(case.tags))
        cocotb.start_soon(bench.driver("sums").send(case.sums))
        await bench.compare("words", case.words, meaning)
        assert len(done) == len(case.sums)
        assert bench.get("empty")
