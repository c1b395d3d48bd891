"""The accelerator behind AXI, as emitted Verilog, against cocotbext-axi's models of the buses."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from polyspike.compiler import Download, Program, Run, Upload, compile
from polyspike.compiler.packing import pack_input
from polyspike.cosim.bench import run_bench
from polyspike.cosim.random_networks import random_images, random_network
from polyspike.driver import open_device
from polyspike.driver.device import input_counts
from polyspike.gateware.axi import AxiEngine
from polyspike.spec import TINY

pytestmark = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog (iverilog) is not installed")

#: Two columns, so that the column mask matters, and the unpacker.
CONFIGURATION = TINY.replace(name="two", columns=2, compact=0, unpacker=1)

#: Of the random network that is run: one whose columns get different weights.
SEED = 2


def test_axi(tmp_path: Path) -> None:
    network = random_network(SEED)
    program = compile(network, CONFIGURATION)
    images = random_images(network, SEED, 3)
    with open_device("golden") as device:
        device.load(program)
        membranes = device.infer(images).membranes
    assert np.ptp(membranes) > 0
    save(program, images, membranes, tmp_path / "program.npz")
    tests = run_bench(
        AxiEngine(CONFIGURATION, clock_hz=100_000_000),
        "cosim.benches.bench_axi",
        directory=tmp_path / "bench",
        environment={"POLYSPIKE_PROGRAM": str(tmp_path / "program.npz")},
    )
    assert tests == 17


def save(program: Program, images: np.ndarray, membranes: np.ndarray, path: Path) -> None:
    """Write what the bench has to do and what must come of it as plain numbers."""
    (segment,) = program.segments
    upload, run, download = segment.steps
    assert isinstance(upload, Upload) and isinstance(run, Run) and isinstance(download, Download)
    assert len({write.mask for write in segment.writes}) > 2
    node = program.network.input
    maps = np.zeros((len(images), *program.maps[node.name]), np.uint64)
    words = pack_input(input_counts(program.network, images), node.counts.bits, program.packing)
    maps[..., : words.shape[-1]] = words[:, None]
    np.savez(
        path,
        membranes=membranes,
        inputs=maps[(slice(None), *upload.box.slices)].reshape(len(images), -1),
        boxes=[upload.box.address, run.first, run.count, download.box.address, download.box.size],
        writes=[(write.space, write.mask, write.address) for write in segment.writes],
        **{f"words{index}": write.words for index, write in enumerate(segment.writes)},
    )
