"""The frame decoder under the stall matrix: sound and damaged frames against a decoder in plain Python."""

from typing import Any

import cocotb
from cocotb.triggers import FallingEdge

from cosim.blocks import LINK
from cosim.link_model import damaged, decode, random_frame
from polyspike.cosim.cocotb_bench import Bench, seeds, stall_runs
from polyspike.gateware.link import FrameDecoder

FRAMES = 10


@cocotb.test()
@cocotb.parametrize(seed=seeds(), stalls=stall_runs("rx", "content"))
async def frames(dut: Any, seed: int, stalls: dict[str, str]) -> None:
    bench = Bench(dut, FrameDecoder(LINK), stalls, seed)
    await bench.start()
    sent = b""
    for _ in range(FRAMES):
        if bench.random.random() < 0.5:
            sent += damaged(bench.random, LINK.frame_words)
        sent += random_frame(bench.random, LINK.frame_words)
    expected = decode(sent, LINK.frame_words)
    assert len(expected.contents) >= FRAMES // 2
    faults = 0

    async def watch() -> None:
        nonlocal faults
        while True:
            await FallingEdge(dut.clk)
            faults += bench.get("fault")

    watching = cocotb.start_soon(watch())
    sending = cocotb.start_soon(bench.driver("rx").send(sent))
    await bench.compare("content", list(b"".join(expected.contents)))
    await sending
    await bench.wait(4)
    assert faults == expected.dropped, f"{faults} faults, but {expected.dropped} frames had to be dropped"
    watching.cancel()
