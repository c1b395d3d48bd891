"""The spike memory under the stall matrix: columns and host read and write at once, against a list of all writes."""

from collections.abc import Callable
from typing import Any

import cocotb
from cocotb.triggers import Timer

from cosim.blocks import MEMORY
from cosim.memory_model import MemoryModel
from polyspike.cosim.cocotb_bench import BOUND, Bench, seeds, stall_runs
from polyspike.cosim.cocotb_streams import PERIOD_NS
from polyspike.gateware.spike_memory import READ_LATENCY, SpikeMemory

ACCESSES = 16
COLUMNS = range(MEMORY.columns)


@cocotb.test(**BOUND)
@cocotb.parametrize(seed=seeds(), stalls=stall_runs("write", "host_write", "read", "host_read"))
async def accesses(dut: Any, seed: int, stalls: dict[str, str]) -> None:
    writers, readers = [f"write{column}" for column in COLUMNS], [f"read{column}" for column in COLUMNS]
    patterns = {**stalls, **dict.fromkeys(writers, stalls["write"]), **dict.fromkeys(readers, stalls["read"])}
    bench = Bench(dut, SpikeMemory(MEMORY), patterns, seed)
    await bench.start()
    model = MemoryModel()
    depth = MEMORY.spike_depth

    def check(stream: str, port: str) -> Callable[[int, int], None]:
        async def later(address: int, cycle: int) -> None:
            await Timer(READ_LATENCY * PERIOD_NS, "ns")
            assert port != "host_word" or bench.get("host_word_valid"), f"no word in cycle {cycle + READ_LATENCY}"
            model.compare(stream, address, cycle, bench.get(port))

        return lambda address, cycle: cocotb.start_soon(later(address, cycle)) and None

    for writer in [*writers, "host_write"]:
        bench.monitor(writer).receivers.append(model.write)
    for reader in [*readers, "host_read"]:
        bench.monitor(reader).receivers.append(check(reader, reader.replace("read", "word")))

    def write(address: int, mask: int) -> dict[str, int]:
        return {"address": address, "data": bench.random.getrandbits(64), "mask": mask}

    await bench.driver("host_write", stalled=False).send([write(address, 0b11) for address in range(depth)])
    await bench.wait(2)
    few = [bench.random.randrange(depth) for _ in range(6)]
    tasks = []
    for writer in [*writers, "host_write"]:
        some = [write(bench.random.choice(few), bench.random.randint(1, 3)) for _ in range(ACCESSES)]
        tasks.append(cocotb.start_soon(bench.driver(writer).send(some)))
    for reader in [*readers, "host_read"]:
        # Columns of one port ask for the same words now and then, which are then served at once.
        addresses = [bench.random.choice([*few, bench.random.randrange(depth)]) for _ in range(ACCESSES)]
        tasks.append(cocotb.start_soon(bench.driver(reader).send(addresses)))
    for task in tasks:
        await task
    await bench.driver("read0", stalled=False).send(range(depth))
    await bench.wait(READ_LATENCY + 1)
    assert model.compared + model.skipped == depth + ACCESSES * (len(readers) + 1)
    assert model.compared > 3 * model.skipped
