"""Where an integer is read, and what is said about a wrong one, without a simulator."""

from collections.abc import Callable

import numpy as np
import pytest

from polyspike.compiler import compile
from polyspike.cosim.diagnose import Activity, Written, diagnose, place
from polyspike.cosim.random_networks import random_images, random_network
from polyspike.driver import Connection, Result, WordDevice
from polyspike.driver.compare import Comparison, Mismatch
from polyspike.driver.ports import Traffic, Words
from polyspike.machine import Machine
from polyspike.network import Network
from polyspike.spec import TINY, Configuration
from polyspike.spec.memory import Space

QUAD = TINY.replace(name="quad", columns=4, compact=0, unpacker=1)
#: So small that maps and weights are streamed.
STREAMING = TINY.replace(name="streaming", spike_depth=64, weight_depth=128)
IMAGES = 2


class Snapshots:
    """A memory port that keeps the whole spike memory after each run."""

    def __init__(self, configuration: Configuration) -> None:
        self.machine = Machine(configuration)
        self.depth = configuration.spike_depth
        self.memories: list[Words] = []

    def write(self, space: Space, mask: int, address: int, words: Words, ahead: bool = False) -> None:
        self.machine.write(space, mask, address, words, ahead)

    def read(self, space: Space, address: int, count: int) -> Words:
        return self.machine.read(space, address, count)

    def read_later(self, space: Space, address: int, count: int) -> Callable[[], Words]:
        return self.machine.read_later(space, address, count)

    def run(self, first: int, count: int) -> None:
        self.machine.run(first, count)
        self.memories.append(self.machine.read(Space.SPIKES, 0, self.depth).copy())

    def finish(self) -> None:
        self.machine.finish()

    def traffic(self) -> Traffic | None:
        return None


def traced(network: Network, configuration: Configuration) -> tuple[Result, Snapshots]:
    port = Snapshots(configuration)
    with WordDevice(lambda _: Connection(port, configuration, "", lambda: None), "", configuration) as device:
        device.load(compile(network, configuration))
        return device.infer(random_images(network, 0, IMAGES), trace=True), port


def some(shape: tuple[int, ...], seed: int) -> list[tuple[int, ...]]:
    """Return a few places of an array, the first and the last one among them."""
    generator = np.random.default_rng(seed)
    size = int(np.prod(shape))
    flat = {0, size - 1, *generator.integers(0, size, 10).tolist()}
    return [tuple(int(each) for each in np.unravel_index(index, shape)) for index in sorted(flat)]


@pytest.mark.parametrize("configuration", [TINY, QUAD, STREAMING], ids=lambda each: each.name)
@pytest.mark.parametrize("seed", [0, 2, 3])
def test_every_integer_is_where_it_is_said_to_be(configuration: Configuration, seed: int) -> None:
    network = random_network(seed)
    program = compile(network, configuration)
    assert program.resident == (configuration is not STREAMING)
    result, port = traced(network, configuration)
    assert result.counts is not None
    for node in network.nodes[1:-1]:
        counts = result.counts[node.name]
        for at in some(counts.shape, 0):
            image, timestep, channel, row, column = at
            found = place(program, Mismatch(node.name, image, timestep, channel, row, column, 0, 0), IMAGES)
            code = int(port.memories[found.run][found.address]) >> found.low & ((1 << found.bits) - 1)
            assert code == int(counts[at]) % (1 << found.bits)
            assert found.first_run <= found.run and found.block.layer == node.name
    for image, channel in some(result.membranes.shape, 1):
        found = place(program, Mismatch(None, image, 0, channel, 0, 0, 0, 0), IMAGES)
        code = int(port.memories[found.run][found.address]) >> found.low & 0xFFFF_FFFF
        assert code == int(result.membranes[image, channel]) % (1 << 32)
    assert len(port.memories) == found.run + 1, "the last integer is of the last run"


def test_the_last_write_of_the_right_half_counts() -> None:
    network = random_network(2)
    program = compile(network, QUAD)
    name = network.nodes[1].name
    mismatch = Mismatch(name, 1, 0, 0, 0, 0, 3, -1)
    found = place(program, mismatch, IMAGES)
    runs = [(100 * index, 100 * index + 90) for index in range(found.run + 1)]
    start, end = runs[found.first_run][0], runs[found.run][1]
    half = 1 << found.low // 32
    address = found.address
    writes = [
        Written(start - 5, address, 1, 3),  # before
        Written(start + 5, address, 2, half),
        Written(start + 9, address, 3, half),
        Written(start + 11, address, 4, 3 - half),  # the other half
        Written(start + 12, address + 1, 5, 3),  # another word
        Written(end + 1, address, 6, 3),  # behind
    ]
    comparison = Comparison(1000, 7, mismatch)
    diagnosis = diagnose(program, comparison, Activity(runs, writes), IMAGES)
    assert diagnosis.cycle == start + 9
    assert diagnosis.text.startswith(
        f"7 of 1000 integers differ; the first:\nlayer '{name}', image 1, timestep 0, position (y 0, x 0), "
        "channel 0: count 3, expected -1\n"
    )
    assert f"written at cycle {start + 9}: 0x0000000000000003" in diagnosis.text
    nothing = diagnose(program, comparison, Activity(runs, writes[:1]), IMAGES)
    assert nothing.cycle == end and nothing.text.endswith("was not written in these cycles")
