"""A compiled program on the emitted Verilog of a Core, loaded and run by the ordinary driver over the core's link.

Environment: POLYSPIKE_PROGRAMS, paths of program files. Beside each lies an .npz with `images`, and what the golden
model makes of them: `membranes` and, for every layer, `counts/<name>`.
"""

import os
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.task import bridge

from polyspike.compiler import load_program
from polyspike.cosim.cocotb_streams import PERIOD_NS
from polyspike.cosim.cocotb_transport import start_link
from polyspike.driver import WordDevice
from polyspike.driver.link import Link
from polyspike.driver.ports import Connection
from polyspike.spec import TINY, Configuration

#: Several times what the bench needs.
BOUND_NS = 200_000 * PERIOD_NS


@cocotb.test(timeout_time=BOUND_NS, timeout_unit="ns")
async def digits(dut: Any) -> None:
    transport = await start_link(dut)

    def connect(configuration: Configuration) -> Connection:
        link = Link(transport, frame_words=configuration.frame_words, rx_bytes=configuration.rx_bytes)
        return Connection(link, configuration, "the emitted Verilog in cocotb", transport.close)

    def host(device: WordDevice, path: Path) -> None:
        program = load_program(path)
        expected = np.load(path.with_suffix(".npz"))
        device.load(program)
        device.reset()
        result = device.infer(expected["images"], trace=True)
        assert result.counts is not None
        layers = [name.removeprefix("counts/") for name in expected.files if name.startswith("counts/")]
        assert list(result.counts) == layers and len(layers) >= 2
        for layer in layers:
            np.testing.assert_array_equal(result.counts[layer], expected[f"counts/{layer}"], err_msg=f"layer {layer}")
        np.testing.assert_array_equal(result.membranes, expected["membranes"])
        counters = device.counters()
        assert counters.events > 0 and not dut.busy.value
        dut._log.info("%s, %d images: %s", path.stem, len(result.membranes), counters)

    paths = os.environ["POLYSPIKE_PROGRAMS"].split(os.pathsep)
    device = await bridge(WordDevice)(connect, "cocotb", TINY)
    for path in paths:
        await bridge(host)(device, Path(path))
    await bridge(device.close)()
