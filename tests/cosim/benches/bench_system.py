"""Compiled programs on the emitted Verilog of a whole accelerator; see `polyspike.cosim.system`."""

from typing import Any

import cocotb

from polyspike.cosim.cocotb_streams import PERIOD_NS
from polyspike.cosim.system import run_cases

#: Many times what any bench needs.
BOUND_NS = 100_000_000 * PERIOD_NS


@cocotb.test(timeout_time=BOUND_NS, timeout_unit="ns")
async def every_count_is_golden(dut: Any) -> None:
    await run_cases(dut)
