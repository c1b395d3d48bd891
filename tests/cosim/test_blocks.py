"""The blocks as emitted Verilog, each in a cocotb bench under the stall matrix."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cosim.blocks import LANES
from gateware import gathering
from polyspike.cosim.bench import run_bench
from polyspike.gateware.gather import Gather
from polyspike.gateware.lanes import Lanes

pytestmark = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog (iverilog) is not installed")

#: What is simulated in each bench: cosim.benches.bench_<name> has 16 runs for each seed.
BLOCKS: dict[str, Callable[[], Any]] = {
    "gather": lambda: Gather(gathering.CONFIGURATION),
    "lanes": lambda: Lanes(LANES),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_block(name: str, tmp_path: Path) -> None:
    assert run_bench(BLOCKS[name](), f"cosim.benches.bench_{name}", directory=tmp_path) == 16
