"""A compiled program on the emitted Verilog of a Core, loaded and run by the ordinary driver over the core's link.

Environment: POLYSPIKE_PROGRAM, a program file; POLYSPIKE_EXPECTED, an .npz with `images`, and what the golden model
makes of them: `membranes` and, for every layer, `counts/<name>`.
"""

import os
from typing import Any

import cocotb
import numpy as np
from cocotb.task import bridge

from polyspike.compiler import load_program
from polyspike.cosim.cocotb_transport import PERIOD_NS, start_link
from polyspike.driver import Counters, Result, WordDevice
from polyspike.driver.link import Link
from polyspike.driver.ports import Connection
from polyspike.spec import Configuration

#: Several times what the bench needs.
BOUND_NS = 200_000 * PERIOD_NS


@cocotb.test(timeout_time=BOUND_NS, timeout_unit="ns")
async def every_count_is_the_golden_models(dut: Any) -> None:
    transport = await start_link(dut)
    program = load_program(os.environ["POLYSPIKE_PROGRAM"])
    expected = np.load(os.environ["POLYSPIKE_EXPECTED"])

    def connect(configuration: Configuration) -> Connection:
        link = Link(transport, frame_words=configuration.frame_words)
        return Connection(link, "the emitted Verilog in cocotb", transport.close)

    def host() -> tuple[Result, Counters]:
        with WordDevice(connect, "cocotb", program.configuration) as device:
            device.load(program)
            return device.infer(expected["images"], trace=True), device.counters()

    result, counters = await bridge(host)()
    assert result.counts is not None
    layers = [name.removeprefix("counts/") for name in expected.files if name.startswith("counts/")]
    assert list(result.counts) == layers and len(layers) >= 2
    for layer in layers:
        np.testing.assert_array_equal(result.counts[layer], expected[f"counts/{layer}"], err_msg=f"layer {layer}")
    np.testing.assert_array_equal(result.membranes, expected["membranes"])
    assert not dut.busy.value and counters.events > 0
    dut._log.info("%d images: %s", len(result.membranes), counters)
