"""The emitted Verilog of a whole `tiny` accelerator runs real digits in cocotb, bit for bit."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from cosim.digits import digits_networks
from polyspike.compiler import compile, save_program
from polyspike.cosim.bench import run_bench
from polyspike.driver import open_device
from polyspike.gateware.core import Core
from polyspike.spec import TINY

pytestmark = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog (iverilog) is not installed")


def test_digits(tmp_path: Path) -> None:
    """Two programs, for one and for two timesteps, one after the other on the same core."""
    networks, test_images, labels = digits_networks((1, 2))
    for network, images in zip(networks, (2, 1), strict=True):
        program = compile(network, TINY)
        save_program(program, tmp_path / f"{network.name}.pspk")
        with open_device("golden") as device:
            device.load(program)
            accuracy = np.mean(device.infer(test_images).predictions == labels)
            assert accuracy > 0.85, "the digits must be worth recognizing"
            golden = device.infer(test_images[:images], trace=True)
        assert golden.counts is not None
        np.savez(
            tmp_path / f"{network.name}.npz",
            images=test_images[:images],
            membranes=golden.membranes,
            **{f"counts/{name}": counts for name, counts in golden.counts.items()},
        )
    environment = {"POLYSPIKE_PROGRAMS": os.pathsep.join(str(path) for path in sorted(tmp_path.glob("*.pspk")))}
    assert run_bench(Core(TINY), "cosim.benches.bench_core", directory=tmp_path / "bench", environment=environment) == 1
