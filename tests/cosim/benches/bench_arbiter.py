"""The arbiter under the stall matrix: every stream's items in order, each once, and no stream passed over."""

from typing import Any

import cocotb

from polyspike.cosim.cocotb_bench import BOUND, Bench, seeds, stall_runs
from polyspike.cosim.scoreboard import Scoreboard
from polyspike.gateware.arbiter import RoundRobin

INPUTS = 3
ITEMS = 20


@cocotb.test(**BOUND)
@cocotb.parametrize(seed=seeds(), stalls=stall_runs("i0", "i1", "i2", "o"))
async def items(dut: Any, seed: int, stalls: dict[str, str]) -> None:
    bench = Bench(dut, RoundRobin(16, INPUTS), stalls, seed)
    await bench.start()
    sent = [[bench.random.getrandbits(16) for _ in range(ITEMS)] for _ in range(INPUTS)]
    scoreboards = [Scoreboard(f"items of i{source}", each) for source, each in enumerate(sent)]
    passed_over = [0] * INPUTS

    def receive(item: dict[str, int], cycle: int) -> None:
        served = item["source"]
        scoreboards[served].receive(item["item"], cycle)
        passed_over[served] = 0
        for source in range(INPUTS):
            if source != served and bench.get(f"i{source}.valid"):
                passed_over[source] += 1
                assert passed_over[source] < INPUTS, f"i{source} was passed over again in cycle {cycle}"

    bench.monitor("o").receivers.append(receive)
    for source, each in enumerate(sent):
        cocotb.start_soon(bench.driver(f"i{source}").send(each))
    await bench.sink("o").take(INPUTS * ITEMS)
    await bench.wait(10)
    assert [each.missing for each in scoreboards] == [0] * INPUTS
