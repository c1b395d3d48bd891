"""The emitted Verilog of a whole `tiny` accelerator runs real digits in cocotb, bit for bit."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from cosim.digits import digits_network
from polyspike.compiler import compile, save_program
from polyspike.cosim.bench import run_bench
from polyspike.driver import open_device
from polyspike.gateware.core import Core
from polyspike.spec import TINY

pytestmark = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog (iverilog) is not installed")


@pytest.mark.parametrize(("timesteps", "images"), [(1, 3), (2, 1)])
def test_digits(timesteps: int, images: int, tmp_path: Path) -> None:
    network, test_images, labels = digits_network(timesteps)
    program = compile(network, TINY)
    save_program(program, tmp_path / "digits.pspk")
    with open_device("golden") as device:
        device.load(program)
        accuracy = np.mean(device.infer(test_images).predictions == labels)
        assert accuracy > 0.85, "the digits must be worth recognizing"
        golden = device.infer(test_images[:images], trace=True)
    assert golden.counts is not None
    np.savez(
        tmp_path / "expected.npz",
        images=test_images[:images],
        membranes=golden.membranes,
        **{f"counts/{name}": counts for name, counts in golden.counts.items()},
    )
    environment = {
        "POLYSPIKE_PROGRAM": str(tmp_path / "digits.pspk"),
        "POLYSPIKE_EXPECTED": str(tmp_path / "expected.npz"),
    }
    assert run_bench(Core(TINY), "cosim.benches.bench_core", directory=tmp_path / "bench", environment=environment) == 1
