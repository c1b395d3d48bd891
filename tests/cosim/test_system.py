"""The emitted Verilog of a whole `tiny` accelerator runs real Fashion-MNIST images in cocotb, bit for bit.

A planted fault shows that a difference is found, and that what is said about it is right.
"""

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cosim.fashion import fashion_networks
from polyspike.compiler import Program, compile
from polyspike.cosim.diagnose import AFTER, BEFORE
from polyspike.cosim.system import WAVEFORM, golden_case, run_system
from polyspike.driver import open_device
from polyspike.gateware.axi import AxiEngine
from polyspike.gateware.core import Core
from polyspike.network import Layer, Network
from polyspike.spec import TINY, DeviceError
from polyspike.spec.memory import Space

pytestmark = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog (iverilog) is not installed")

BENCH = "cosim.benches.bench_system"

Trained = tuple[list[Network], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def trained() -> Trained:
    """The network for one and for two timesteps, and test images."""
    networks, images, labels = fashion_networks((1, 2))
    for network in networks:
        with open_device("golden") as device:
            device.load(compile(network, TINY))
            accuracy = np.mean(device.infer(images).predictions == labels)
            assert accuracy > 0.6, "the images must be worth recognizing"
    return networks, images


@pytest.mark.parametrize("interface", ["link", "axi"])
def test_every_count_is_golden(interface: str, trained: Trained, tmp_path: Path) -> None:
    """Two programs, for one and for two timesteps, one after the other on the same accelerator."""
    networks, images = trained
    component = Core(TINY) if interface == "link" else AxiEngine(TINY)
    cases = [golden_case(compile(network, TINY), images[:1]) for network in networks]
    assert run_system(component, BENCH, cases, tmp_path) > 2000


def flipped(program: Program, channel: int) -> Program:
    """Return a program whose host writes the highest bit of some weights of a channel of the first layer wrongly."""
    (segment,) = program.segments
    writes = list(segment.writes)
    at = next(index for index, write in enumerate(writes) if write.space is Space.WEIGHTS)
    words = writes[at].words ^ np.uint64(0x80 << 8 * channel)
    writes[at] = dataclasses.replace(writes[at], words=words)
    return dataclasses.replace(program, segments=(dataclasses.replace(segment, writes=tuple(writes)),))


def test_a_difference_is_explained(trained: Trained, tmp_path: Path) -> None:
    """Wrong weights of channel 3 of the first layer: everything behind it is wrong, but that comes first."""
    networks, images = trained
    program = compile(networks[0], TINY)
    case = golden_case(program, images[:1])
    faulty = dataclasses.replace(case, program=flipped(program, 3))
    with pytest.raises(DeviceError) as raised:
        run_system(AxiEngine(TINY), BENCH, [faulty], tmp_path)
    text = str(raised.value)
    found = re.search(
        r"layer 'first', image 0, timestep 0, position \(y (\d+), x (\d+)\), channel 3: count (-?\d+), expected (-?\d+)",
        text,
    )
    assert found, text
    row, column, value, expected = map(int, found.groups())
    first = program.network["first"]
    assert isinstance(first, Layer) and first.neuron is not None
    assert case.expected.counts is not None
    assert case.expected.counts["first"][0, 0, 3, row, column] == expected != value
    # What was written, and where, is what the driver then read.
    written = re.search(r"bits (\d+) to (\d+) of .* address (\d+), .* \(cycles (\d+) to (\d+)\)", text)
    word = re.search(r"written at cycle (\d+): 0x([0-9a-f]{16})", text)
    assert written and word, text
    low, high, address, start, end = map(int, written.groups())
    bits = first.neuron.counts.bits
    assert (low, high) == (3 * bits, 4 * bits - 1)
    assert int(word[2], 16) >> low & ((1 << bits) - 1) == value % (1 << bits)
    cycle = int(word[1])
    assert start < cycle < end
    # The waveform is of these cycles, and it has this write in it.
    waveform = (tmp_path / "cases" / WAVEFORM).read_text()
    assert str(tmp_path / "cases" / WAVEFORM) in text
    times = [int(line[1:]) // 10 for line in waveform.splitlines() if line.startswith("#")]
    assert (min(times[1:]), max(times)) == (cycle - BEFORE, cycle + AFTER)
    assert changes(waveform, "write0__payload", cycle) >> 10 & ((1 << 64) - 1) == int(word[2], 16)
    assert changes(waveform, "write0__payload", cycle) & 1023 == address
    assert changes(waveform, "write0__valid", cycle) == 1


def changes(waveform: str, name: str, cycle: int) -> int:
    """Return the value of a signal at the end of a cycle of a waveform."""
    (identifier,) = re.findall(rf"\$var wire \d+ (\S+) {name} ", waveform)
    value, time = 0, 0
    for line in waveform.splitlines():
        if line.startswith("#"):
            time = int(line[1:]) // 10
        elif time < cycle and line.startswith("b") and line.split()[1] == identifier:
            value = int(line[1:].split()[0], 2)
        elif time < cycle and line in (f"0{identifier}", f"1{identifier}"):
            value = int(line[0])
    return value
