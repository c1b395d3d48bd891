"""The driver on a device in plain Python, over the link's bytes: no gateware, no compiler."""

import dataclasses

import numpy as np
import pytest

from driver.fake import CYCLES, FakeCore, FakeDevice, FakeTransport, fake_program
from golden.networks import a_layer, an_input, random_network
from polyspike.driver import Connection, WordDevice, compare, open_link
from polyspike.driver import word_device as word_device_module
from polyspike.golden.device import GoldenDevice
from polyspike.network import CountRange, Network, Node, Synapse, verify
from polyspike.spec import SMALL, TINY, Configuration, DeviceError, InputError, LinkError
from polyspike.spec.link import Command
from polyspike.spec.memory import Space
from polyspike.spec.registers import BY_NAME, COUNTERS

#: Tiny, with an unpacker.
UNPACKING = TINY.replace(name="unpacking", unpacker=1)


class Bench:
    """A driver, the fake behind it, and the program it runs."""

    def __init__(
        self,
        network: Network,
        *,
        streamed: bool = False,
        configuration: Configuration | None = TINY,
        hardware: Configuration = TINY,
        run_seconds: float = 0.0,
        rate: float | None = None,
    ) -> None:
        self.program = fake_program(network, hardware, streamed=streamed)
        self.core = FakeCore(network, hardware)
        self.transport = FakeTransport(FakeDevice(self.core, run_seconds), bytes_per_second=rate)
        self.device = WordDevice(self.connect, "fake", configuration)

    def connect(self, configuration: Configuration) -> Connection:
        try:
            link, found = open_link(self.transport, configuration)
        except DeviceError:
            self.transport.close()
            raise
        return Connection(link, found, "a fake device", self.transport.close)

    @property
    def commands(self) -> list[tuple[int, int, int, int, int]]:
        return self.transport.device.commands


def images(network: Network, batch: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, *network.input.image)).astype(np.uint8)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("seed", "timesteps"), [(1, 1), (2, 2), (5, 1), (8, 3)])
def test_equals_the_golden_device(seed: int, timesteps: int, streamed: bool) -> None:
    network = random_network(seed, timesteps)
    bench = Bench(network, streamed=streamed)
    golden = GoldenDevice()
    batch = images(network, 3)
    bench.device.load(bench.program)
    golden.load(bench.program)
    expected = golden.infer(batch, trace=True)
    plain = bench.device.infer(batch)
    traced = bench.device.infer(batch, trace=True, profile=True)
    np.testing.assert_array_equal(plain.membranes, expected.membranes)
    np.testing.assert_array_equal(plain.logits, expected.logits)
    np.testing.assert_array_equal(plain.predictions, expected.logits.argmax(1))
    assert plain.counts is None
    assert plain.profile is None
    comparison = compare(traced, expected)
    assert expected.counts is not None
    assert comparison.compared == sum(counts.size for counts in expected.counts.values()) + expected.membranes.size
    assert comparison.differing == 0, comparison


def test_batches_larger_than_the_host_maps_run_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network(2, 2)
    bench = Bench(network, streamed=True)
    bench.device.load(bench.program)
    batch = images(network, 5)
    whole = bench.device.infer(batch, trace=True, profile=True)
    bytes_an_image = 8 * sum(int(np.prod(shape)) for shape in bench.program.maps.values())
    monkeypatch.setattr(word_device_module, "HOST_MAP_BYTES", 2 * bytes_an_image)
    writes = len(bench.commands)
    parts = bench.device.infer(batch, trace=True, profile=True)
    assert compare(parts, whole).differing == 0
    assert parts.profile == whole.profile
    segments = len(bench.program.segments)
    programs = [each for each in bench.commands[writes:] if each[:2] == (1, Space.PROGRAM)]
    assert len(programs) == 3 * segments


def test_a_resident_program_is_written_once() -> None:
    network = random_network(2, 1)
    bench = Bench(network)
    bench.device.load(bench.program)
    loaded = len(bench.commands)
    assert any(each[:3] == (1, Space.WEIGHTS, 1) for each in bench.commands)
    bench.device.infer(images(network, 2))
    bench.device.infer(images(network, 2))
    spaces = {each[1] for each in bench.commands[loaded:] if each[0] == 1}
    assert spaces == {Space.SPIKES}
    runs = [each for each in bench.commands if each[0] == 3]
    assert runs == [(3, 0, 0, 0, 1), (3, 0, 0, 1, len(network.nodes) - 2)] * 4


def deep_network() -> Network:
    """Four layers on 16 x 16 pixels of 8 bits, then an output."""
    rng = np.random.default_rng(7)
    nodes: list[Node] = [an_input((1, 16, 16))]
    for index in range(4):
        channels = 1 if index == 0 else 2
        weight = rng.integers(-30, 60, (2, channels, 3, 3)).astype(np.int8)
        shape = (2, 16, 16) if index == 0 else (2, 2, 2)
        stride, padding = ((1, 1), (1, 1)) if index == 0 else ((8, 8) if index == 1 else (1, 1), (1, 1))
        synapse = Synapse(nodes[-1].name, weight, (3, 3), stride=stride, padding=padding)
        nodes.append(a_layer(f"layer{index}", shape, (synapse,), CountRange(8, 7, 4), theta=4000))
    weight = rng.integers(-127, 128, (3, 2, 2, 2)).astype(np.int8)
    nodes.append(a_layer("output", (3, 1, 1), (Synapse(nodes[-1].name, weight, (2, 2)),)))
    return verify(Network("deep", 1, tuple(nodes)))


@pytest.mark.parametrize("hardware", [TINY, UNPACKING], ids=lambda each: each.name)
def test_the_next_image_is_sent_while_one_is_computed(hardware: Configuration) -> None:
    network = deep_network()
    bench = Bench(network, configuration=hardware, hardware=hardware)
    bench.device.load(bench.program)
    start = len(bench.commands)
    bench.device.infer(images(network, 3))
    names = [Command(each[0]).name for each in bench.commands[start:] if each[1] != Space.REGISTERS or each[0] == 3]
    uploads = 16 if hardware is TINY else 2
    first, second = ["WRITE"] * uploads, ["WRITE_AHEAD"] * uploads
    # What is sent behind a READ fits the device, which may have to keep it until the run is over.
    before = 13 if hardware is TINY else 0
    order = [*first]
    for _ in range(2):
        order += ["RUN", "RUN", *second[:before], "READ", *second[before:]]
    assert names == [*order, "RUN", "RUN", "READ"]
    spaces = {each[1] for each in bench.commands[start:] if each[0] in (Command.WRITE, Command.WRITE_AHEAD)}
    assert spaces == {Space.SPIKES if hardware is TINY else Space.INPUT}
    assert bench.transport.device.overruns == 0


@pytest.mark.parametrize(("run_seconds", "busy"), [(0.0, 0.95), (0.0005, 0.95), (0.05, 0.0)])
def test_the_link_is_busy_while_a_batch_is_streamed(run_seconds: float, busy: float) -> None:
    """Where computing takes less time than sending, the line to the device is never idle for long."""
    network = deep_network()
    hardware = UNPACKING.replace(rx_bytes=1024)
    bench = Bench(network, configuration=hardware, hardware=hardware, run_seconds=run_seconds, rate=100_000)
    golden = GoldenDevice()
    bench.device.load(bench.program)
    golden.load(bench.program)
    batch = images(network, 20)
    start = bench.transport.now()
    result = bench.device.infer(batch)
    seconds = bench.transport.now() - start
    np.testing.assert_array_equal(result.membranes, golden.infer(batch).membranes)
    rates = result.rates
    assert rates is not None
    assert rates.sent is not None
    # A byte a pixel, and five requests: two runs, two frames of pixels, one result.
    assert rates.sent <= 20 * (16 * 16 + 5 * 18) + 3 * 18
    assert rates.link_busy == pytest.approx(rates.sent / 100_000 / seconds)
    assert busy < rates.link_busy <= 1
    assert rates.cycles == 20 * CYCLES * 5
    assert seconds >= 20 * 2 * run_seconds
    assert bench.transport.device.overruns == 0


def test_rates_of_the_core_and_from_end_to_end() -> None:
    network = random_network(2, 1)
    bench = Bench(network)
    bench.core.memories[Space.REGISTERS][BY_NAME["CLOCK_HZ"].address] = 50_000_000
    device = WordDevice(bench.connect, "fake", TINY)
    device.load(bench.program)
    rates = device.infer(images(network, 4)).rates
    assert rates is not None
    layers = len(network.nodes) - 1
    assert rates.cycles_per_image == CYCLES * layers
    assert rates.core_images_per_second == 50_000_000 / (CYCLES * layers)
    assert rates.images_per_second == 4 / rates.seconds
    assert rates.link_busy is None
    bench = Bench(network)
    bench.device.load(bench.program)
    rates = bench.device.infer(images(network, 4)).rates
    assert rates is not None
    assert rates.core_images_per_second is None


def test_a_link_that_breaks_is_reported_at_every_later_call() -> None:
    network = random_network(2, 1)
    bench = Bench(network)
    bench.device.load(bench.program)
    bench.transport.device.restart()
    with pytest.raises(LinkError, match=r"the device restarted or was opened by someone else"):
        bench.device.infer(images(network, 2))
    for use in (
        lambda: bench.device.infer(images(network, 2)),
        lambda: bench.device.load(bench.program),
        lambda: bench.device.counters(),
    ):
        with pytest.raises(LinkError, match=r"link is broken, open the device again; .*the device restarted"):
            use()
    device = WordDevice(bench.connect, "fake", TINY)
    device.load(bench.program)
    device.infer(images(network, 2))


def test_streamed_weights_are_loaded_once_for_a_whole_batch() -> None:
    network = random_network(2, 1)
    bench = Bench(network, streamed=True)
    bench.device.load(bench.program)
    assert not any(each[0] == 1 and each[1] == Space.WEIGHTS for each in bench.commands)
    bench.device.infer(images(network, 4))
    layers = len(network.nodes) - 1
    assert bench.core.runs == [layer for layer in range(1, layers + 1) for _ in range(4)]
    writes = [each for each in bench.commands if each[:2] == (1, Space.WEIGHTS)]
    assert len(writes) == 2 * layers


def test_counters_and_profile() -> None:
    network = random_network(2, 1)
    layers = [node.name for node in network.nodes[1:]]
    bench = Bench(network)
    bench.core.memories[Space.REGISTERS][COUNTERS[-1].address] = 99
    device = WordDevice(bench.connect, "fake", TINY)
    assert device.counters() == type(device.counters())()
    device.load(bench.program)
    device.infer(images(network, 3))
    assert device.counters().cycles == 3 * CYCLES * len(layers)
    profile = device.infer(images(network, 2), profile=True).profile
    assert profile is not None
    assert [each.layer for each in profile] == layers
    assert [each.counters.cycles for each in profile] == [2 * CYCLES] * len(layers)
    assert [each.counters.events for each in profile] == [2 * (index + 1) for index in range(len(layers))]
    device.reset()
    assert device.counters().cycles == 0
    # A reset needs no reload.
    device.infer(images(network, 1))
    assert device.counters().cycles == CYCLES * len(layers)


def test_the_counters_are_those_of_the_register_map() -> None:
    names = [field.name for field in dataclasses.fields(word_device_module.Counters)]
    assert names == [register.name.lower() for register in COUNTERS]


def test_identity_is_checked_at_open() -> None:
    bench = Bench(random_network(2, 1))
    assert str(bench.device.identity) == f"a fake device, configuration 'tiny' (digest {TINY.digest})"
    with pytest.raises(DeviceError, match=rf"has configuration 'tiny' .digest {TINY.digest}.*'small' .*asked for"):
        WordDevice(bench.connect, "fake", SMALL)
    assert bench.transport.closed
    bench.core.memories[Space.REGISTERS][1] = 0x1234
    with pytest.raises(DeviceError, match=r"an unknown configuration .digest 0000000000001234"):
        WordDevice(bench.connect, "fake", TINY)
    bench.core.memories[Space.REGISTERS][0] = 7
    with pytest.raises(DeviceError, match=r"no polyspike device: register MAGIC reads 0x0000000000000007"):
        WordDevice(bench.connect, "fake", TINY)


def test_without_a_configuration_the_first_program_decides() -> None:
    network = random_network(2, 1)
    bench = Bench(network, configuration=None)
    assert bench.device.identity.configuration is None
    assert bench.device.counters().cycles == 0
    assert bench.transport.requests == 0
    bench.device.load(bench.program)
    assert bench.device.identity.configuration == TINY
    other = dataclasses.replace(bench.program, configuration=SMALL)
    with pytest.raises(DeviceError, match=r"program of network 'random 2' is for configuration 'small'.*'tiny'"):
        bench.device.load(other)
    bench.device.infer(images(network, 1))


def test_negative_and_large_membranes_come_back() -> None:
    weight = np.array([[127] * 4, [-127] * 4, [1] * 4], np.int8).reshape(3, 1, 2, 2)
    network = Network(
        "membranes",
        3,
        (
            an_input((1, 2, 2), CountRange(0, 255, 8)),
            a_layer("output", (3, 1, 1), (Synapse("input", weight, (2, 2), shift=3),), bias=-5),
        ),
    )
    bench = Bench(network)
    bench.device.load(bench.program)
    result = bench.device.infer(np.full((1, 2, 2), 255, np.uint8))
    full = 127 * 8 * 255 * 4
    assert result.membranes.tolist() == [[3 * (full - 5), 3 * (-full - 5), 3 * (8 * 255 * 4 - 5)]]
    np.testing.assert_allclose(result.logits, result.membranes / 3)
    assert result.predictions.tolist() == [0]


def test_close_closes_the_transport() -> None:
    bench = Bench(random_network(2, 1))
    with bench.device as device:
        device.load(bench.program)
    assert bench.transport.closed
    with pytest.raises(DeviceError, match=r"closed"):
        bench.device.counters()


def test_progress_bar_counts_images(capsys: pytest.CaptureFixture[str]) -> None:
    network = random_network(2, 1)
    bench = Bench(network)
    bench.device.load(bench.program)
    bench.device.infer(images(network, 3), progress=True)
    assert "3/3" in capsys.readouterr().err


def test_results_that_cannot_be_compared_are_refused() -> None:
    network = random_network(2, 1)
    bench = Bench(network)
    bench.device.load(bench.program)
    traced = bench.device.infer(images(network, 2), trace=True)
    with pytest.raises(InputError, match=r"only traced results"):
        compare(traced, bench.device.infer(images(network, 2)))
    with pytest.raises(InputError, match=r"are the images the same"):
        compare(traced, bench.device.infer(images(network, 3), trace=True))


def test_compare_counts_and_names_the_first_difference() -> None:
    network = random_network(2, 2)
    bench = Bench(network)
    bench.device.load(bench.program)
    good = bench.device.infer(images(network, 2), trace=True)
    bad = bench.device.infer(images(network, 2), trace=True)
    assert bad.counts is not None
    assert str(compare(bad, good)).startswith("0 of ")
    name = next(node.name for node in network.nodes[1:-1])
    value = int(bad.counts[name][1, 1, 0, 0, 0])
    bad.counts[name][1, 1, 0, 0, 0] += 3
    bad.membranes[0, -1] += 1
    comparison = compare(bad, good)
    assert comparison.differing == 2
    assert f"layer {name!r}, image 1, timestep 1, position (0, 0), channel 0: {value + 3}, expected {value}" in str(
        comparison
    )
    bad.counts[name][1, 1, 0, 0, 0] -= 3
    assert f"output {bad.membranes.shape[1] - 1} of image 0 is" in str(compare(bad, good).first)
