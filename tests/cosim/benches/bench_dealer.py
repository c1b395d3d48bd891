"""The dealer under the stall matrix: layers dealt one after the other, against the loop nest of the instruction set."""

from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from cosim.blocks import SEQUENCER
from gateware.sequencing import expected_items, expected_steps, random_layer
from polyspike.cosim.cocotb_bench import Bench, seeds, stall_runs
from polyspike.cosim.cocotb_streams import cycle
from polyspike.gateware import layouts
from polyspike.gateware.dealer import Dealer
from polyspike.spec.instructions import FIRE, OUTPUT, PASS_SLOTS, SHAPE, SOURCE, WEIGHTS, WINDOW, Format

COLUMNS = range(SEQUENCER.columns)
LAYERS = 3


@cocotb.test()
@cocotb.parametrize(seed=seeds(), stalls=stall_runs(*(f"item{column}" for column in COLUMNS)))
async def layers(dut: Any, seed: int, stalls: dict[str, str]) -> None:
    bench = Bench(dut, Dealer(SEQUENCER), stalls, seed)
    await bench.start()
    done: list[int] = []
    dealt: list[int] = []

    async def watch() -> None:
        while True:
            await FallingEdge(dut.clk)
            if bench.get("done"):
                done.append(cycle())

    watching = cocotb.start_soon(watch())
    for column in COLUMNS:
        bench.monitor(f"item{column}").receivers.append(lambda _, at: dealt.append(at))
    for index in range(LAYERS):
        layer = random_layer(bench.random, SEQUENCER.columns)
        for slot in range(PASS_SLOTS):
            for format in (SOURCE, WINDOW, WEIGHTS):
                describe(bench, f"pass{slot}.{format.name.lower()}", format, layer["passes"][slot][format.name])
            bench.describe(**{f"layer.pass{slot}.steps": expected_steps(layer, slot)})
        for name, format in (("output", OUTPUT), ("extent", SHAPE), ("fire", FIRE)):
            describe(bench, name, format, layer[format.name])
        expected = expected_items(layer, SEQUENCER.columns, SEQUENCER.lanes)
        comparing = [cocotb.start_soon(bench.compare(f"item{column}", expected[column])) for column in COLUMNS]
        bench.set("start", 1)
        await bench.wait(1)
        bench.set("start", 0)
        for each in comparing:
            await each
        # It is said when the last position is dealt, and columns see that a cycle later.
        assert len(done) == index + 1 and done[-1] < max(dealt)
    watching.cancel()


def describe(bench: Bench, name: str, format: Format, values: dict[str, int]) -> None:
    """Set a descriptor; fields and addresses are cut to what the configuration has, as the sequencer does."""
    members = layouts.descriptor(format, SEQUENCER).members
    cut = {name: values[name] for name in members}
    for field in format.fields:
        if field.name in members and not field.signed:
            cut[field.name] &= (1 << members[field.name].shape.width) - 1
    bench.describe(**{f"layer.{name}": cut})
