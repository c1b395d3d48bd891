"""The blocks as emitted Verilog, each in a cocotb bench under the stall matrix."""

import shutil
from pathlib import Path

import pytest

from gateware import gathering
from polyspike.cosim.bench import run_bench
from polyspike.gateware.gather import Gather

pytestmark = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog (iverilog) is not installed")


def test_gather(tmp_path: Path) -> None:
    assert run_bench(Gather(gathering.CONFIGURATION), "cosim.benches.bench_gather", directory=tmp_path) == 16
