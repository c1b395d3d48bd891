"""The compact spike memory under the stall matrix: column and host read and write at once, against all writes.

The column holds its words for as long as its stalls say.
"""

from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from cosim.blocks import COMPACT_MEMORY
from cosim.memory_model import MemoryModel
from polyspike.cosim.cocotb_bench import BOUND, Bench, seeds, stall_runs
from polyspike.cosim.cocotb_streams import cycle
from polyspike.gateware.compact_memory import CompactMemory

ACCESSES = 25


@cocotb.test(**BOUND)
@cocotb.parametrize(seed=seeds(), stalls=stall_runs("write0", "host_write", "read0", "host_read"))
async def accesses(dut: Any, seed: int, stalls: dict[str, str]) -> None:
    bench = Bench(dut, CompactMemory(COMPACT_MEMORY), stalls, seed)
    await bench.start()
    model = MemoryModel()
    depth = COMPACT_MEMORY.spike_depth

    def host_reads(address: int, at: int) -> None:
        assert bench.get("host_word_valid")
        # Transferred when its word is there, which was read in the cycle before.
        model.compare("host_read", address, at - 1, bench.get("host_word"))

    for writer in ("write0", "host_write"):
        bench.monitor(writer).receivers.append(model.write)
    bench.monitor("host_read").receivers.append(host_reads)

    def write(address: int, mask: int) -> dict[str, int]:
        return {"address": address, "data": bench.random.getrandbits(64), "mask": mask}

    async def column_reads(addresses: list[int]) -> None:
        driver, held = bench.driver("read0"), bench.stalls("read0")
        for address in addresses:
            await driver.send([address])
            read = cycle() - 1
            bench.set("hold", 1)
            for _ in range(min(next(held), 30) + 1):
                await FallingEdge(dut.clk)
                model.compare("read0", address, read, bench.get("word0"))
                await bench.wait(1)
            bench.set("hold", 0)

    async def column_writes(some: list[dict[str, int]]) -> None:
        # The column never writes in two cycles in a row.
        driver = bench.driver("write0")
        for each in some:
            await driver.send([each])
            await bench.wait(1)

    await bench.driver("host_write", stalled=False).send([write(address, 0b11) for address in range(depth)])
    few = [bench.random.randrange(depth) for _ in range(6)]

    def addresses() -> list[int]:
        return [bench.random.choice([*few, bench.random.randrange(depth)]) for _ in range(ACCESSES)]

    def some() -> list[dict[str, int]]:
        return [write(bench.random.choice(few), bench.random.randint(1, 3)) for _ in range(ACCESSES)]

    for task in [
        cocotb.start_soon(column_reads(addresses())),
        cocotb.start_soon(column_writes(some())),
        cocotb.start_soon(bench.driver("host_write").send(some())),
        cocotb.start_soon(bench.driver("host_read").send(addresses())),
    ]:
        await task
    await bench.driver("host_read", stalled=False).send(range(depth))
    assert model.compared > depth + ACCESSES
    assert model.compared > 3 * model.skipped
