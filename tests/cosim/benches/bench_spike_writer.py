"""The way of spike words from a fire unit into the spike memory, while the host writes there, too."""

from typing import Any

import cocotb
from cocotb.triggers import Timer

from cosim.blocks import SPIKE_WRITER, SpikeWriter
from gateware.firing import parameter_words, random_case
from polyspike.cosim.cocotb_bench import BOUND, Bench, seeds, stall_runs
from polyspike.cosim.cocotb_streams import PERIOD_NS
from polyspike.cosim.scoreboard import Scoreboard
from polyspike.gateware.spike_memory import READ_LATENCY
from polyspike.spec.instructions import COMMON_FIRES

#: The fire unit's words end before.
HOST = range(56, 64)


@cocotb.test(**BOUND)
@cocotb.parametrize(seed=seeds(), stalls=stall_runs("sums", "tag", "host_write"))
async def words(dut: Any, seed: int, stalls: dict[str, str]) -> None:
    bench = Bench(dut, SpikeWriter(SPIKE_WRITER), stalls, seed)
    await bench.start()
    case = random_case(SPIKE_WRITER, bench.random, bench.turn(list(COMMON_FIRES)))
    await bench.load(parameter_words(case))
    bench.describe(fire=case.layer)
    memory = [bench.random.getrandbits(64) for _ in range(SPIKE_WRITER.spike_depth)]
    everything = [{"address": address, "data": word, "mask": 0b11} for address, word in enumerate(memory)]
    await bench.driver("host_write", stalled=False).send(everything)

    # The last words that the host writes to its addresses stay; half of a word that is not written keeps its value.
    writes = [(bench.random.choice(HOST), bench.random.getrandbits(64), 0b11) for _ in range(30)]
    for address, data, mask in [*case.words, *writes]:
        keep = sum(0xFFFFFFFF << 32 * half for half in range(2) if not mask >> half & 1)
        memory[address] = memory[address] & keep | data & ~keep
    tasks = [
        cocotb.start_soon(bench.driver("tag").send(case.tags)),
        cocotb.start_soon(bench.driver("sums").send(case.sums)),
        cocotb.start_soon(
            bench.driver("host_write").send(
                [dict(zip(("address", "data", "mask"), each, strict=True)) for each in writes]
            )
        ),
    ]
    done = bench.pulses("done")
    for task in tasks:
        await task
    for _ in range(100):
        if len(done) == len(case.sums) and bench.get("empty"):
            break
        await bench.wait(4)
    # A cycle from the queue to the memory's register, and one into the memory.
    await bench.wait(2)

    scoreboard = Scoreboard("spike memory", memory)

    def read(address: int, cycle: int) -> None:
        async def later() -> None:
            await Timer(READ_LATENCY * PERIOD_NS, "ns")
            scoreboard.receive(bench.get("host_word"), cycle)

        cocotb.start_soon(later())

    bench.monitor("host_read").receivers.append(read)
    await bench.driver("host_read", stalled=False).send(range(len(memory)))
    await bench.wait(READ_LATENCY + 1)
    assert not scoreboard.missing
