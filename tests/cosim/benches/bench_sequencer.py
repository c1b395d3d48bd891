"""The sequencer under the stall matrix: programs of two layers, against the loop nest of the instruction set."""

from collections.abc import Callable
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from cosim.blocks import SEQUENCER
from gateware.sequencing import expected_items, expected_steps, instructions, random_layer
from polyspike.cosim.cocotb_bench import Bench, seeds, stall_runs
from polyspike.gateware.sequencer import Sequencer
from polyspike.spec.instructions import HALT, PASS_SLOTS, encode, make

COLUMNS = range(SEQUENCER.columns)


@cocotb.test()
@cocotb.parametrize(seed=seeds(), stalls=stall_runs("run", *(f"item{column}" for column in COLUMNS)))
async def programs(dut: Any, seed: int, stalls: dict[str, str]) -> None:
    bench = Bench(dut, Sequencer(SEQUENCER), stalls, seed)
    await bench.start()
    layers = [random_layer(bench.random, SEQUENCER.columns) for _ in range(2)]
    codes = [instructions(layer) for layer in layers]
    program = [*codes[0], *codes[1], encode(make(HALT))]
    await bench.load(enumerate(program))
    # A part of the program, and the rest: until HALT, or with a count that is more than there is before HALT.
    requests = [(0, len(codes[0])), (len(codes[0]), bench.turn([0, 60]))]

    working = dict.fromkeys(COLUMNS, 0)
    bench.set("idle", (1 << SEQUENCER.columns) - 1)

    async def work(column: int, cycles: int) -> None:
        await RisingEdge(dut.clk)
        for step in (1, -1):
            working[column] += step
            bench.set("idle", sum((not working[each]) << each for each in COLUMNS))
            await bench.wait(cycles)

    expected = {
        column: [
            (layer, item)
            for layer in layers
            for item in expected_items(layer, SEQUENCER.columns, SEQUENCER.lanes)[column]
        ]
        for column in COLUMNS
    }

    def check(column: int) -> Callable[[Any, int], None]:
        owners = iter([layer for layer, _ in expected[column]])

        def receive(_: Any, cycle: int) -> None:
            # The descriptors are those of the layer that the item is of.
            layer = next(owners, None)
            assert layer is not None, f"an item too many for column {column} in cycle {cycle}"
            for slot in range(PASS_SLOTS):
                for name, value in expected_steps(layer, slot).items():
                    member = f"layer.pass{slot}.steps.{name}"
                    assert bench.get(member) == value, f"{member} in cycle {cycle}"
            assert bench.get("running"), f"not running in cycle {cycle}"
            cocotb.start_soon(work(column, bench.random.choice((1, 2, 30))))

        return receive

    done = 0

    async def watch() -> None:
        nonlocal done
        while True:
            await FallingEdge(dut.clk)
            if bench.get("done"):
                done += 1
                assert not any(working.values()), "a request is done while a column is working"

    watching = cocotb.start_soon(watch())
    for column in COLUMNS:
        bench.monitor(f"item{column}").receivers.append(check(column))
    comparing = [
        cocotb.start_soon(bench.compare(f"item{column}", [item for _, item in expected[column]])) for column in COLUMNS
    ]
    await bench.driver("run").send([{"first": first, "count": count} for first, count in requests])
    for each in comparing:
        await each
    while done < len(requests):
        await RisingEdge(dut.done)
        await bench.wait(2)
    assert done == len(requests)
    watching.cancel()
