"""The emitted Verilog of a whole `tiny` accelerator runs real Fashion-MNIST images in cocotb, bit for bit.

A planted fault shows that a difference is found, and that what is said about it is right.
"""

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from cosim.fashion import fashion_networks
from polyspike.compiler import Program, compile
from polyspike.cosim.cocotb_streams import PERIOD_NS
from polyspike.cosim.diagnose import AFTER, BEFORE
from polyspike.cosim.payload import Payload
from polyspike.cosim.random_networks import Aim, aimed_network, random_images
from polyspike.cosim.system import WAVEFORM, golden_case, run_system
from polyspike.driver import open_device
from polyspike.gateware import layouts
from polyspike.gateware.axi import AxiEngine
from polyspike.gateware.core import Core
from polyspike.network import Layer
from polyspike.spec import TINY, DeviceError
from polyspike.spec.memory import Space

pytestmark = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog (iverilog) is not installed")

BENCH = "cosim.benches.bench_system"


def test_every_count_is_golden_over_the_link_and_behind_axi(tmp_path: Path) -> None:
    networks, images, labels = fashion_networks((1, 2))
    for network, component in zip(networks, (AxiEngine(TINY), Core(TINY)), strict=True):
        program = compile(network, TINY)
        with open_device("golden") as device:
            device.load(program)
            accuracy = np.mean(device.infer(images).predictions == labels)
            assert accuracy > 0.6, "the images must be worth recognizing"
        assert run_system(component, BENCH, [golden_case(program, images[:1])], tmp_path / network.name) > 500


def flipped(program: Program, channel: int) -> Program:
    """Return a program whose host writes the sign of all weights of a channel of the first layer wrongly."""
    (segment,) = program.segments
    writes = list(segment.writes)
    at = next(index for index, write in enumerate(writes) if write.space is Space.WEIGHTS)
    words = writes[at].words ^ np.uint64(0x80 << 8 * channel)
    writes[at] = dataclasses.replace(writes[at], words=words)
    return dataclasses.replace(program, segments=(dataclasses.replace(segment, writes=tuple(writes)),))


def test_a_difference_is_explained(tmp_path: Path) -> None:
    """Wrong weights of channel 3 of the first layer: everything behind it is wrong, but that comes first."""
    network = aimed_network(36, Aim(("conv",), bits=8, signed=True, timesteps=2, mapping="positions"))
    program = compile(network, TINY)
    case = golden_case(program, random_images(network, 1, 1))
    faulty = dataclasses.replace(case, program=flipped(program, 3))
    with pytest.raises(DeviceError) as raised:
        run_system(AxiEngine(TINY), BENCH, [faulty], tmp_path)
    text = str(raised.value)
    first = network.nodes[1]
    assert isinstance(first, Layer) and first.neuron is not None and case.expected.counts is not None
    found = re.search(
        rf"layer '{first.name}', image (\d), timestep (\d), position \(y (\d+), x (\d+)\), channel 3: "
        r"count (-?\d+), expected (-?\d+)",
        text,
    )
    assert found, text
    image, timestep, row, column, value, expected = map(int, found.groups())
    assert case.expected.counts[first.name][image, timestep, 3, row, column] == expected != value
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
    assert str(tmp_path / "cases" / WAVEFORM) in text
    assert "top.engine.spikes.write0__payload[75:0]" in (tmp_path / "cases" / WAVEFORM).with_suffix(".gtkw").read_text()
    waveform = (tmp_path / "cases" / WAVEFORM).read_text()
    times = [int(line[1:]) // PERIOD_NS for line in waveform.splitlines() if line.startswith("#")]
    assert (min(times[1:]), max(times)) == (cycle - BEFORE, cycle + AFTER)
    assert value_before(waveform, "write0__valid", cycle) == 1
    item = Payload(layouts.spike_write(TINY)).unpack(value_before(waveform, "write0__payload", cycle))
    assert (item["address"], item["data"]) == (address, int(word[2], 16))


def value_before(waveform: str, name: str, cycle: int) -> int:
    """Return the value that a signal has at the clock edge with which a cycle begins."""
    (identifier,) = re.findall(rf"\$var wire \d+ (\S+) {name} ", waveform)
    value, time = "", 0
    for line in waveform.splitlines():
        if line.startswith("#"):
            time = int(line[1:]) // PERIOD_NS
        elif time < cycle and line.startswith("b") and line.split()[1] == identifier:
            value = line[1:].split()[0]
        elif time < cycle and line[0] in "01x" and line[1:] == identifier:
            value = line[0]
    return int(value, 2)
