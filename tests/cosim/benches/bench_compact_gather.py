"""The compact gather under the stall matrix, with a spike memory that spoils its word whenever it is not held."""

from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from gateware.compacting import CONFIGURATION, Step, dropped, events_of, random_memory, random_step, signed
from polyspike.cosim.cocotb_bench import BOUND, Bench, seeds, stall_runs
from polyspike.cosim.cocotb_streams import cycle
from polyspike.gateware.compact_gather import CompactGather

STEPS = 30


@cocotb.test(**BOUND)
@cocotb.parametrize(seed=seeds(), stalls=stall_runs("step", "request", "event"))
async def events(dut: Any, seed: int, stalls: dict[str, str]) -> None:
    bench = Bench(dut, CompactGather(CONFIGURATION), stalls, seed)
    await bench.start()
    memory = random_memory(bench.random)
    steps: list[Step] = [random_step(bench.random) for _ in range(STEPS)]
    # A lone event at the end of a tile, words that are full and empty, and an end.
    for step, address in zip(steps, (3, 2, 1, 0, 0), strict=False):
        step.update(address=address, last=int(address != 1), blank=0)
    steps[-1]["last"] = 1

    async def answer() -> None:
        """Put out each word in the cycle after its request, and garbage from when it is not held any more."""
        settled, released = FallingEdge(dut.clk), FallingEdge(dut.hold)
        asks, accepted = RisingEdge(dut.request__valid), RisingEdge(dut.request__ready)
        spoiled = False
        while True:
            await settled
            asked = bench.get("request.valid")
            if bench.get("hold"):
                assert not asked, f"a word is asked for while one is held, in cycle {cycle()}"
                await released
                spoiled = False
            elif spoiled and not (asked and bench.get("request.ready")):
                await (accepted if asked else asks)
            else:
                spoiled = not (asked and bench.get("request.ready"))
                word = bench.random.getrandbits(64) if spoiled else memory[bench.get("request.payload")]
                await bench.wait(1)
                bench.set("word", word)

    zero_words = bench.pulses("zero_word")
    cocotb.start_soon(answer())
    cocotb.start_soon(bench.driver("step").send(steps))
    cocotb.start_soon(bench.sink("request").take(sum(not step["blank"] for step in steps)))
    expected = [event for step in steps for event in events_of(step, memory[step["address"]])]

    def meaning(event: dict[str, int]) -> dict[str, int]:
        return {**event, "raw": signed(event["raw"], CONFIGURATION.membrane_bits)}

    await bench.compare("event", expected, meaning)
    assert len(zero_words) == sum(dropped(step, memory[step["address"]]) for step in steps)
