"""The fire unit under the stall matrix, against the definition of firing in Python integers."""

import dataclasses
from typing import Any

import cocotb

from cosim.blocks import FIRE
from gateware.firing import Case, case_of, corner_case, extremes, meaning, parameter_words, random_case
from polyspike.cosim.cocotb_bench import BOUND, Bench, seeds, stall_runs
from polyspike.gateware.fire import Fire
from polyspike.spec import Configuration
from polyspike.spec.instructions import COMMON_FIRES, FireKind


def maxima(bench: Bench, configuration: Configuration) -> Case:
    """Return a case whose sums are maxima of counts: of each, all bits above a count's are garbage."""
    layer = {**extremes(bench.random, FireKind.SPIKE, wide=True), "params": 0}
    theta = [bench.random.choice([1, 1, 2, 100]) for _ in range(configuration.lanes)]
    zeros = [0] * configuration.lanes
    return case_of(
        configuration,
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


async def compare_words(dut: Any, configuration: Configuration, seed: int, stalls: dict[str, str]) -> None:
    """Compare the words of a corner case, of a random one and of maxima with what the definition makes of them."""
    bench = Bench(dut, Fire(configuration), stalls, seed)
    await bench.start()
    done = bench.pulses("done")
    spoiled = maxima(bench, configuration)
    kind = bench.turn(list(COMMON_FIRES))
    cases = [corner_case(configuration, bench.random, FireKind.SPIKE), random_case(configuration, bench.random, kind)]
    cases.append(dataclasses.replace(spoiled, sums=[[spoil(bench, each) for each in row] for row in spoiled.sums]))
    for case in cases:
        await bench.load(parameter_words(case))
        bench.describe(fire=case.layer)
        bench.set("counts", int(case is cases[-1]))
        if configuration.pairs:
            bench.set("paired", int(case.paired))
        done.clear()
        cocotb.start_soon(bench.driver("tag").send(case.tags))
        cocotb.start_soon(bench.driver("sums").send(case.sums))
        await bench.compare("words", case.words, meaning)
        assert len(done) == len(case.tags)
        assert bench.get("empty")


@cocotb.test(**BOUND)
@cocotb.parametrize(seed=seeds(), stalls=stall_runs("sums", "tag", "words"))
async def words(dut: Any, seed: int, stalls: dict[str, str]) -> None:
    await compare_words(dut, FIRE, seed, stalls)
